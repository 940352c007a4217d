//! Text as Hugging Face's libraries make it: `tests/goldens/text.py` says how the expected values came to be.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use overbook_engine::serve::tokenizer::{Decoder, Message, Tokenizer};
use serde::Deserialize;
use serde_json::Map;

#[derive(Deserialize)]
struct Expected {
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    folder: String,
    vocab: usize,
    ends: Vec<u32>,
    texts: Vec<Text>,
    chats: Vec<Chat>,
    before: Vec<u32>,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<Said>,
    ids: Option<Vec<u32>>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: String,
}

#[derive(Deserialize)]
struct Answer {
    ids: Vec<u32>,
    pieces: Vec<String>,
    text: String,
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

fn expected() -> Vec<Model> {
    let text = std::fs::read_to_string(goldens().join("text.json")).expect("it is committed");
    serde_json::from_str::<Expected>(&text).expect("the script's JSON").models
}

fn load(model: &Model) -> Arc<Tokenizer> {
    let tokenizer = Tokenizer::load(&goldens().join(&model.folder), model.vocab, &[7]);
    Arc::new(tokenizer.expect("it is whole").expect("it is there"))
}

#[test]
fn texts_and_conversations_become_the_same_tokens() {
    for model in expected() {
        let tokenizer = load(&model);
        let mut ends = tokenizer.ends().to_vec();
        assert_eq!(ends[0], *model.ends.last().unwrap(), "the tokenizer's own end of text comes first");
        ends.sort_unstable();
        assert_eq!((ends, tokenizer.vocab_min() as usize), (model.ends.clone(), model.vocab));
        for Text { text, ids } in &model.texts {
            assert_eq!(tokenizer.encode(text, 1000).as_ref(), Ok(ids), "{}: {text:?}", model.folder);
        }
        let mut refused = 0;
        for chat in &model.chats {
            let messages: Vec<Message<'_>> =
                chat.messages.iter().map(|said| Message { role: &said.role, content: said.content.clone() }).collect();
            match (tokenizer.encode_chat(&messages, &Map::new(), 1000), &chat.ids, &chat.error) {
                (Ok(got), Some(want), _) => assert_eq!(&got, want, "{}: {messages:?}", model.folder),
                (Err(got), None, Some(want)) => {
                    assert!(got.contains(want.as_str()), "{got}, not {want}");
                    refused += 1;
                }
                (got, ..) => panic!("{}: {messages:?}: {got:?}", model.folder),
            }
        }
        assert_eq!(refused, u32::from(model.folder.ends_with("pieces")), "only that template is strict");
    }
}

#[test]
fn answers_come_in_the_same_pieces() {
    for model in expected() {
        let tokenizer = load(&model);
        for Answer { ids, pieces, text } in &model.answers {
            let mut decoder = Decoder::new(&tokenizer, &model.before);
            let mut got: Vec<String> = ids.iter().map(|&id| decoder.push(id)).collect();
            assert_eq!(&got, pieces, "{}: {ids:?}", model.folder);
            got.push(decoder.finish());
            assert_eq!(&got.concat(), text, "{}: {ids:?}", model.folder);
        }
    }
}

#[test]
fn what_is_missing_or_broken_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = |vocab| Tokenizer::load(folder.path(), vocab, &[7]);
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
    let told = |vocab| load(vocab).map(|_| ()).expect_err("broken").to_string();
    let hi = [Message { role: "user", content: "hi".into() }];
    let chat = |tokenizer: &Tokenizer| tokenizer.encode_chat(&hi, &Map::new(), 1000);
    assert!(load(1000).expect("nothing is wrong").is_none(), "no tokenizer.json");
    let model = &expected()[0];
    let source = std::fs::read_to_string(goldens().join(&model.folder).join("tokenizer.json")).expect("committed");
    put("tokenizer.json", &source);
    let bare = load(model.vocab).expect("whole").expect("there");
    assert_eq!(bare.ends(), [7], "no generation_config.json");
    assert!(chat(&bare).expect_err("no template").contains("no chat template"));
    assert!(bare.encode(&"x".repeat(1 << 20), 100).expect_err("too long").contains("far more than 100 tokens"));
    assert!(told(100).contains(&format!("tokens up to {}, the model only 100", model.vocab - 1)), "{}", told(100));
    put("generation_config.json", r#"{"eos_token_id": "x"}"#);
    assert!(told(1000).contains("generation_config.json: "), "{}", told(1000));
    put("generation_config.json", "{}");
    put("tokenizer_config.json", r#"{"chat_template": "a\n{% if %}", "eos_token": "<|eot|>"}"#);
    let broken = load(1000).expect("text works").expect("there");
    assert!(broken.broken_template().is_some_and(|told| told.contains("tokenizer_config.json: `chat_template`: ")));
    assert!(chat(&broken).expect_err("broken").contains("line 2"), "{:?}", chat(&broken));
    let eot = broken.encode("<|eot|>", 10).expect("text")[1];
    assert_eq!(broken.ends(), [eot, 7], "the end of text, and what the model says");
    put("chat_template.jinja", "{{ bos_token }}{{ messages[0].content }}");
    put("tokenizer_config.json", r#"{"bos_token": {"content": "<|begin|>"}}"#);
    let apart = load(1000).expect("whole").expect("there");
    let ids = chat(&apart).expect("its own file");
    assert_eq!(ids, apart.encode("hi", 10).expect("text"), "the template writes what the tokenizer puts around a text");
    // A tokenizer that was saved while it cut and filled up texts.
    let mut cutting: serde_json::Value = serde_json::from_str(&source).expect("JSON");
    cutting["truncation"] =
        serde_json::json!({ "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0 });
    cutting["padding"] = serde_json::json!({ "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<|begin|>" });
    put("tokenizer.json", &cutting.to_string());
    let text = "The scheduler waits for a block.";
    let cutting = load(1000).expect("whole").expect("there");
    assert_eq!(cutting.encode(text, 1000), apart.encode(text, 1000), "no prompt is cut or filled up");
    put("tokenizer.json", "{}");
    assert!(told(1000).contains("tokenizer.json: "), "{}", told(1000));
}
