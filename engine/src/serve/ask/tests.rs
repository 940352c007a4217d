use super::*;
use crate::serve::tokenizer::{Message, Tokenizer};
use serde_json::Map;

fn read(kind: Endpoint, body: &Value) -> Result<Ask, String> {
    let read = Ask::read(kind, body.to_string().as_bytes(), "tiny", &Tokenizer::bytes(), 4096);
    read.map_err(|error| error.body()["error"].to_string())
}

fn completion(body: &Value) -> Result<Ask, String> {
    read(Endpoint::Completion, body)
}

#[test]
fn prompts_are_text_or_tokens() {
    let prompt = |prompt: Value| completion(&json!({ "prompt": prompt })).map(|ask| ask.prompt);
    assert_eq!(prompt(json!("ab")), Ok(vec![97, 98]));
    assert_eq!(prompt(json!(["ab"])), Ok(vec![97, 98]));
    assert_eq!(prompt(json!([5, 6])), Ok(vec![5, 6]));
    assert_eq!(prompt(json!([[5, 6]])), Ok(vec![5, 6]));
    for wrong in
        [json!(7), json!(["a", "b"]), json!([1, "a"]), json!([-1]), json!([1.5]), json!(""), json!([]), json!({})]
    {
        let error = prompt(wrong.clone()).expect_err(&wrong.to_string());
        assert!(error.contains(r#""param":"prompt""#) && error.contains(r#""code":400"#), "{error}");
    }
    assert!(completion(&json!({})).expect_err("none").contains("`prompt` is missing"));
}

#[test]
fn chats_are_messages() {
    let chat = |messages: Value| read(Endpoint::Chat, &json!({ "messages": messages }));
    let parts = json!([{ "type": "text", "text": "h" }, { "type": "text", "text": "i" }]);
    let ask = chat(json!([{ "role": "user", "content": parts }])).expect("parts");
    let hi = [Message { role: "user", content: "h\ni".into() }];
    assert_eq!(ask.prompt, Tokenizer::bytes().encode_chat(&hi, &Map::new(), 4096).expect("bytes"));
    assert_eq!(ask.max_tokens, None);
    let image = json!([{ "type": "image_url", "image_url": { "url": "x" } }]);
    for wrong in [json!([]), json!("hi"), json!([{ "content": "hi" }]), json!([{ "role": "king", "content": "hi" }])] {
        assert!(chat(wrong.clone()).expect_err(&wrong.to_string()).contains(r#""param":"messages""#));
    }
    assert!(chat(json!([{ "role": "user", "content": image }])).expect_err("image").contains("text only"));
}

#[test]
fn defaults_are_those_of_openai_and_vllm() {
    let ask = completion(&json!({ "prompt": "a", "unheard_of": [1], "stop": null, "max_tokens": null })).expect("fine");
    assert_eq!((ask.max_tokens, ask.min_tokens, ask.top_k, ask.seed), (Some(16), 0, 0, None));
    assert!((ask.temperature - 1.0).abs() < 1e-6 && (ask.top_p - 1.0).abs() < 1e-6);
    assert!(!ask.stream && !ask.ignore_eos && ask.stop.is_empty());
    let ask =
        completion(&json!({ "prompt": "a", "max_tokens": 5, "max_completion_tokens": 7, "top_k": -1 })).expect("fine");
    assert_eq!((ask.max_tokens, ask.top_k), (Some(7), 0));
    let options = json!({ "include_usage": true, "continuous_usage_stats": true });
    let ask =
        completion(&json!({ "prompt": "a", "stream": true, "stream_options": options, "stop": "x" })).expect("fine");
    assert!(ask.include_usage && ask.continuous_usage);
    assert_eq!(ask.stop, ["x"]);
}

#[test]
fn wrong_types_and_ranges_name_their_field() {
    let wrongs = [
        json!({ "max_tokens": "many" }),
        json!({ "max_tokens": 0 }),
        json!({ "max_tokens": -3 }),
        json!({ "max_tokens": 1.5 }),
        json!({ "max_tokens": 4_294_967_296u64 }),
        json!({ "temperature": -0.1 }),
        json!({ "temperature": "hot" }),
        json!({ "top_p": 0 }),
        json!({ "top_p": 1.1 }),
        json!({ "top_k": -2 }),
        json!({ "top_k": 1.5 }),
        json!({ "seed": "x" }),
        json!({ "stop": 7 }),
        json!({ "stop": [""] }),
        json!({ "stop_token_ids": [-1] }),
        json!({ "ignore_eos": 1 }),
        json!({ "min_tokens": 20 }),
        json!({ "stream": "yes" }),
        json!({ "stream_options": { "include_usage": true } }),
        json!({ "n": 2 }),
        json!({ "logprobs": 1 }),
        json!({ "echo": true }),
        json!({ "best_of": 4 }),
        json!({ "presence_penalty": 0.5 }),
        json!({ "tools": [{}] }),
        json!({ "tool_choice": "required" }),
        json!({ "tool_choice": { "type": "function", "function": { "name": "f" } } }),
        json!({ "function_call": { "name": "f" } }),
        json!({ "modalities": ["text", "audio"] }),
        json!({ "return_token_ids": true }),
        json!({ "response_format": { "type": "json_object" } }),
        json!({ "add_special_tokens": false }),
        json!({ "guided_json": {} }),
        json!({ "truncate_prompt_tokens": 5 }),
    ];
    for wrong in wrongs {
        let (name, value) = wrong.as_object().and_then(|map| map.iter().next()).expect("one field");
        let error = completion(&json!({ "prompt": "a", name.as_str(): value })).expect_err(&wrong.to_string());
        assert!(error.contains(&format!(r#""param":"{name}""#)), "{name}: {error}");
    }
    // The same fields with the values that change nothing.
    let neutral = json!({ "prompt": "a", "n": 1, "logprobs": null, "presence_penalty": 0.0, "repetition_penalty": 1,
        "tools": [], "tool_choice": "auto", "function_call": "none", "modalities": ["text"], "response_format": { "type": "text" }, "echo": false });
    assert!(completion(&neutral).is_ok());
}

#[test]
fn what_is_no_object_or_another_model_is_told() {
    for body in [&b"{"[..], b"[1]", b"", b"\xff", b"{\"prompt\": \"a\"} x"] {
        assert!(Ask::read(Endpoint::Completion, body, "tiny", &Tokenizer::bytes(), 4096).is_err());
    }
    let error = completion(&json!({ "prompt": "a", "model": "gpt-5" })).expect_err("another");
    assert!(error.contains("`gpt-5` does not exist") && error.contains(r#""code":404"#), "{error}");
    assert!(completion(&json!({ "prompt": "a", "model": "tiny" })).is_ok());
}
