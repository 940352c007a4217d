//! How a running server is asked.

use clap::Args;
use overbook_engine::client::{Server, Target};
use overbook_scenarios::Point;
use serde_json::{Map, Value};

use crate::output::Failure;

/// What requests to a server state, beside their prompts and lengths.
#[derive(Args, Debug)]
pub(crate) struct AskArgs {
    /// Name of the model for the server [default: the first that it lists].
    #[arg(long, value_name = "NAME", requires = "url")]
    pub(crate) model: Option<String>,
    /// The server's key [default: OPENAI_API_KEY, if set].
    #[arg(long, value_name = "KEY", requires = "url")]
    pub(crate) api_key: Option<String>,
    /// Token ids of prompts are below this [default: the vocabulary of the scenario's model].
    #[arg(long, value_name = "N", requires = "url")]
    pub(crate) vocab: Option<u32>,
    /// What every request states besides, e.g. '{"top_k": 40}'. The temperature is the scenario's `workload.temperature`; without one requests state
    /// none, and the server takes the model's own.
    #[arg(long, value_name = "JSON", requires = "url")]
    pub(crate) extra_body: Option<String>,
}

/// What the workload decides, and what is needed to see each token.
const OURS: [&str; 9] = [
    "model",
    "prompt",
    "messages",
    "max_tokens",
    "min_tokens",
    "ignore_eos",
    "stream",
    "stream_options",
    "temperature",
];

impl AskArgs {
    /// The name of a flag that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--model", self.model.is_some()),
            ("--api-key", self.api_key.is_some()),
            ("--vocab", self.vocab.is_some()),
            ("--extra-body", self.extra_body.is_some()),
        ];
        flags.into_iter().find_map(|(flag, given)| given.then_some(flag))
    }

    /// The server at an address, asked as a scenario and these say.
    pub(crate) fn server(&self, url: &str, point: &Point) -> Result<Server, Failure> {
        let key = self.api_key.clone().or_else(|| std::env::var("OPENAI_API_KEY").ok());
        Ok(Server {
            target: Target::parse(url).map_err(|error| Failure::Input(format!("--url {error}")))?,
            api_key: key.filter(|key| !key.is_empty()),
            model: self.model.clone(),
            vocab: self.vocab.unwrap_or(point.model.vocab),
            body: self.body(point)?,
        })
    }

    fn body(&self, point: &Point) -> Result<Map<String, Value>, Failure> {
        let mut body = match &self.extra_body {
            None => Map::new(),
            Some(text) => serde_json::from_str::<Map<String, Value>>(text).map_err(|error| {
                Failure::Input(format!("--extra-body: {error}; expected one JSON object, e.g. '{{\"top_k\": 40}}'"))
            })?,
        };
        if let Some(key) = OURS.into_iter().find(|key| body.contains_key(*key)) {
            let instead = match key {
                "temperature" => "set workload.temperature in the scenario, so that simulations know it, too",
                "model" => "use --model",
                _ => "the workload decides it",
            };
            return Err(Failure::Input(format!("--extra-body: leave out `{key}`: {instead}")));
        }
        if let Some(temperature) = point.scenario.workload.temperature {
            body.insert("temperature".to_owned(), temperature.into());
        }
        Ok(body)
    }
}

/// What every request states, in words.
pub(crate) fn stated(server: &Server) -> String {
    if server.body.contains_key("temperature") {
        return Value::Object(server.body.clone()).to_string();
    }
    let others =
        if server.body.is_empty() { String::new() } else { format!(", {}", Value::Object(server.body.clone())) };
    format!("no temperature: the server's or the model's own holds{others}")
}
