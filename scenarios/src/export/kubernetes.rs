//! A fleet as a Kubernetes manifest: a deployment and a service for each kind of replica.

use std::fmt::Write as _;

use overbook_sim::schedulers::SchedulerSpec;
use serde_json::{Value, json};

use super::serve_flags_of;
use crate::point::Point;
use crate::yaml;

/// Where the engines listen.
const VLLM_PORT: u32 = 8000;
const SGLANG_PORT: u32 = 30000;

/// Replicas of one kind.
struct Kind<'a> {
    name: String,
    replicas: u32,
    gpus: u32,
    /// What else its command has.
    more: Vec<&'a str>,
}

/// A manifest of the fleet of a point, as YAML documents. What it cannot say stands in comments.
pub fn kubernetes(point: &Point) -> String {
    let mut text = String::from(
        "# Made by overbook. A router in front of the services is not part of it; model weights are loaded from the hub unless a volume\n\
         # holds them. Choose nodes with the planned GPU, e.g. by nodeSelector nvidia.com/gpu.product.\n",
    );
    let sglang = matches!(point.scenario.scheduler, SchedulerSpec::Sglang(_));
    for (kind, flags) in point.kinds().iter().zip(serve_flags_of(point)) {
        let command = if sglang { &flags.sglang } else { &flags.vllm };
        for own in kinds(kind, sglang) {
            let _ = write!(text, "---\n{}", deployment(kind, &own, command, sglang));
            let _ = write!(text, "---\n{}", service(&own, sglang));
        }
    }
    text
}

/// The kinds of deployments that a fleet of equal replicas has: one, or one for prompts and one for decodes.
fn kinds(point: &Point, sglang: bool) -> Vec<Kind<'static>> {
    let fleet = &point.scenario.fleet;
    let gpus = fleet.gpus_per_replica();
    let base = dns_name(&format!("{}-{}", point.scenario.name, point.scenario.gpu));
    let kind = |role: &str, replicas: u32, more: Vec<&'static str>| {
        let name = if role.is_empty() { base.clone() } else { format!("{base}-{role}") };
        Kind { name, replicas, gpus, more }
    };
    let Some(apart) = &fleet.controllers.disaggregation else { return vec![kind("", fleet.replicas, Vec::new())] };
    let nixl = vec!["--kv-transfer-config", r#"{"kv_connector":"NixlConnector","kv_role":"kv_both"}"#];
    let of = |mode: &'static str| if sglang { vec!["--disaggregation-mode", mode] } else { nixl.clone() };
    vec![kind("prefill", apart.prefill, of("prefill")), kind("decode", fleet.replicas - apart.prefill, of("decode"))]
}

/// A name as Kubernetes takes it: lower case, digits and dashes, at most 50 characters.
fn dns_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(plain).take(50).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "overbook".to_owned() } else { name.to_owned() }
}

/// The words of a command line; single quotes hold a word together.
fn words(command: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => all.push(String::new()),
            c => {
                if let Some(word) = all.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    all.retain(|word| !word.is_empty());
    all
}

fn deployment(point: &Point, kind: &Kind<'_>, command: &str, sglang: bool) -> String {
    let words = words(command);
    let resource = if point.scenario.gpu.starts_with("mi") { "amd.com/gpu" } else { "nvidia.com/gpu" };
    let more = kind.more.iter().map(|word| (*word).to_owned());
    // The image of vLLM begins with `vllm serve`, that of SGLang with nothing.
    let skipped = if sglang { 3 } else { 2 };
    let args: Vec<String> = words.iter().skip(skipped).cloned().chain(more).collect();
    let version = point.scenario.engine.version.as_ref().map_or_else(|| "latest".to_owned(), |own| format!("v{own}"));
    let (image, port) = if sglang {
        ("lmsysorg/sglang:latest".to_owned(), SGLANG_PORT)
    } else {
        (format!("vllm/vllm-openai:{version}"), VLLM_PORT)
    };
    let mut container = json!({
        "name": "engine",
        "image": image,
        "args": args,
        "ports": [{ "containerPort": port }],
        "readinessProbe": { "httpGet": { "path": "/health", "port": port }, "periodSeconds": 10, "failureThreshold": 360 },
        "resources": { "limits": { resource: kind.gpus } },
        "volumeMounts": [{ "name": "shm", "mountPath": "/dev/shm" }],
    });
    if sglang && let Value::Object(map) = &mut container {
        map.insert("command".to_owned(), json!(["python", "-m", "sglang.launch_server"]));
    }
    let labels = json!({ "app": kind.name });
    yaml::emit(&json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": kind.name, "labels": labels },
        "spec": {
            "replicas": kind.replicas,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "containers": [container],
                    "volumes": [{ "name": "shm", "emptyDir": { "medium": "Memory" } }],
                },
            },
        },
    }))
}

fn service(kind: &Kind<'_>, sglang: bool) -> String {
    let port = if sglang { SGLANG_PORT } else { VLLM_PORT };
    yaml::emit(&json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": kind.name },
        "spec": { "selector": { "app": kind.name }, "ports": [{ "port": port, "targetPort": port }] },
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Source;

    fn manifest(more: &str) -> String {
        let text = format!(
            "version: 1\nname: My chat\nmodel: llama-3.1-8b\ngpu: h100\nworkload: {{ generate: {{ arrivals: {{ poisson: {{ rate: 1/s }} }}, \
             lengths: {{ fixed: {{ prompt: 9, output: 9 }} }}, requests: 9 }} }}\n{more}"
        );
        let text = text.replace("My chat", "my.chat");
        kubernetes(&Source::from_text("x", &text).resolve().unwrap().points()[0])
    }

    #[test]
    fn a_fleet_is_a_deployment_and_a_service() {
        let text = manifest("fleet: { replicas: 3, tensor_parallel: 2 }\n");
        for part in ["kind: Deployment", "replicas: 3", "nvidia.com/gpu: 2", "kind: Service", "name: my-chat-h100"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("meta-llama/Llama-3.1-8B") && !text.contains("vllm serve"), "{text}");
        assert_eq!(text.matches("kind:").count(), 2);
    }

    #[test]
    fn prompts_and_decodes_apart_are_two() {
        let apart = "fleet: { replicas: 5, controllers: { disaggregation: { prefill: 2, link: nvlink4 } } }\n";
        let text = manifest(apart);
        assert!(text.contains("my-chat-h100-prefill") && text.contains("my-chat-h100-decode"), "{text}");
        assert!(
            text.contains("replicas: 2") && text.contains("replicas: 3") && text.contains("NixlConnector"),
            "{text}"
        );
        let text = manifest(&format!("{apart}scheduler: sglang\n"));
        assert!(text.contains("--disaggregation-mode") && text.contains("sglang.launch_server"), "{text}");
    }

    #[test]
    fn words_are_those_of_a_shell() {
        assert_eq!(words("vllm serve 'a b' --x 1"), ["vllm", "serve", "a b", "--x", "1"]);
    }
}
