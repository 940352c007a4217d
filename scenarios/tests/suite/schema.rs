//! The committed JSON Schema is the one the types give, and its ranges are the rules.

use overbook_scenarios::{Scenario, scenario_reference, scenario_schema};
use serde_json::{Map, Value, json};

#[test]
fn committed_schema_and_reference_are_up_to_date() {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/scenario.schema.json");
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");
    for (path, text) in [(schema, scenario_schema()), (reference, scenario_reference())] {
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == text, "{path} is out of date; run this test with UPDATE_SCHEMA=1 to write it");
    }
}

#[test]
fn schema_is_draft_7_and_knows_the_short_forms() {
    let schema: Value = serde_json::from_str(&scenario_schema()).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["definitions"]["Duration"]["type"], "string");
    let schedulers = schema["definitions"]["SchedulerSpec"]["oneOf"].as_array().unwrap();
    assert!(schedulers.iter().any(|form| form["const"] == "vllm"), "{schedulers:#?}");
    let costs = schema["definitions"]["CostSpec"]["oneOf"].as_array().unwrap();
    assert!(!costs.iter().any(|form| form["const"] == "table"), "a table needs a path");
}

/// A number that a policy may be set to.
struct Setting {
    /// Where problems with it are found.
    path: String,
    /// The scenario's value at the top of the path, with [`HOLE`] for the number.
    value: Value,
    /// What the schema says of the number.
    schema: Value,
}

const HOLE: &str = "the number";

/// The schema that is meant: behind a reference, or beside `null`.
fn resolved<'s>(schema: &'s Value, root: &'s Value) -> &'s Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return resolved(root.pointer(reference.strip_prefix('#').unwrap()).unwrap(), root);
    }
    let inner = ["anyOf", "allOf"].into_iter().find_map(|key| schema[key].as_array());
    let inner = inner.and_then(|list| list.iter().find(|inner| inner["type"] != "null"));
    inner.map_or(schema, |inner| resolved(inner, root))
}

fn is(schema: &Value, kind: &str) -> bool {
    schema["type"] == kind || schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind))
}

/// Every number below a schema. What must stand beside it has its least value.
fn numbers(path: &str, schema: &Value, root: &Value) -> Vec<Setting> {
    let schema = resolved(schema, root);
    if is(schema, "number") || is(schema, "integer") {
        return vec![Setting { path: path.to_owned(), value: json!(HOLE), schema: schema.clone() }];
    }
    if is(schema, "array") {
        let items = numbers(path, &schema["items"], root).into_iter();
        return items.map(|item| Setting { value: json!([item.value]), ..item }).collect();
    }
    let variants = schema["oneOf"].as_array().into_iter().flatten();
    let mut found: Vec<Setting> = variants.flat_map(|variant| numbers(path, variant, root)).collect();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let beside = required.filter(|other| other != key);
        let least = |other: &str| resolved(&schema["properties"][other], root)["minimum"].clone();
        let beside: Map<String, Value> = beside.map(|other| (other.to_owned(), least(other))).collect();
        for mut inner in numbers(&format!("{path}.{key}"), property, root) {
            let mut object = beside.clone();
            object.insert(key.clone(), inner.value);
            inner.value = Value::Object(object);
            found.push(inner);
        }
    }
    found
}

fn filled(value: &Value, number: &Value) -> Value {
    match value {
        Value::String(text) if text == HOLE => number.clone(),
        Value::Array(items) => items.iter().map(|item| filled(item, number)).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, inner)| (key.clone(), filled(inner, number))).collect())
        }
        other => other.clone(),
    }
}

impl Setting {
    fn bound(&self, key: &str) -> Option<f64> {
        self.schema[key].as_f64()
    }

    /// Numbers at, just inside and just outside every bound, and some that are far off.
    fn candidates(&self) -> Vec<Value> {
        let bounds = ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"];
        let bounds = bounds.into_iter().filter_map(|key| self.bound(key));
        if is(&self.schema, "integer") {
            let near = bounds.flat_map(|bound| [bound as i64 - 1, bound as i64, bound as i64 + 1]);
            return near.chain([1, 2, i64::from(u32::MAX)]).map(Value::from).collect();
        }
        let near = bounds.flat_map(|bound| [bound - 1e-6, bound, bound + 1e-6]);
        near.chain([-1e300, -1.0, 0.5, 1e300]).map(Value::from).collect()
    }

    /// Whether the schema takes a number.
    fn in_schema(&self, number: f64) -> bool {
        self.bound("minimum").is_none_or(|bound| number >= bound)
            && self.bound("exclusiveMinimum").is_none_or(|bound| number > bound)
            && self.bound("maximum").is_none_or(|bound| number <= bound)
            && self.bound("exclusiveMaximum").is_none_or(|bound| number < bound)
    }

    /// Whether a scenario may be run with it, beside what it needs.
    fn in_scenario(&self, number: &Value) -> bool {
        let (key, mut value) = (self.path.split('.').next().unwrap(), filled(&self.value, number));
        for needs in NEEDS.iter().filter(|needs| needs.path() == self.path) {
            for (key, beside) in needs.beside().as_object().unwrap() {
                value[needs.policy][key] = beside.clone();
            }
        }
        let problems = problems(key, &value);
        problems.is_some_and(|problems| problems.iter().all(|(path, _)| *path != self.path))
    }
}

/// What is wrong with a scenario that is right but for a value; `None` if the value cannot be read.
fn problems(key: &str, value: &Value) -> Option<Vec<(String, String)>> {
    let mut scenario = json!({
        "version": 1,
        "name": "ranges",
        "workload": { "generate": { "arrivals": { "poisson": { "rate": "20/s" } }, "lengths": "burstgpt", "requests": 9 } },
        "model": "llama-3.1-8b",
        "gpu": "h200",
    });
    scenario[key] = value.clone();
    serde_json::from_value::<Scenario>(scenario).ok().map(|scenario| scenario.problems())
}

/// A setting of a scheduler that is refused without others: without each of them by itself, too.
struct Needs {
    policy: &'static str,
    key: &'static str,
    /// A value of its own.
    value: &'static str,
    /// The others, and what they have to be.
    beside: &'static str,
}

impl Needs {
    fn path(&self) -> String {
        format!("scheduler.{}.{}", self.policy, self.key)
    }

    fn beside(&self) -> Value {
        serde_json::from_str(self.beside).unwrap()
    }
}

const fn of_sglang(key: &'static str, value: &'static str, beside: &'static str) -> Needs {
    Needs { policy: "sglang", key, value, beside }
}

const NEEDS: [Needs; 7] = [
    of_sglang(
        "priority_scheduling_preemption_threshold",
        "3",
        r#"{ "enable_priority_scheduling": true, "disable_priority_preemption": false }"#,
    ),
    of_sglang("prefill_decode_interval_min_bs", "2", r#"{ "prefill_decode_interval": 1 }"#),
    of_sglang("schedule_low_priority_values_first", "true", r#"{ "enable_priority_scheduling": true }"#),
    of_sglang("disable_priority_preemption", "true", r#"{ "enable_priority_scheduling": true }"#),
    of_sglang("retraction_policy", r#""priority""#, r#"{ "enable_priority_scheduling": true }"#),
    of_sglang("schedule_policy", r#""shortest-prefill-first""#, r#"{ "enable_radix_cache": true }"#),
    Needs { policy: "vllm-v0", key: "swap_space", value: r#""0B""#, beside: r#"{ "preemption_mode": "recompute" }"# },
];

/// The opposite of a setting: what it is when it is not what another one needs.
fn otherwise(value: &Value) -> Value {
    match value {
        Value::Bool(on) => json!(!on),
        Value::Number(_) => json!(0),
        _ => json!("swap"),
    }
}

/// What needs another setting is taken with it, and refused without it in words that name it.
#[test]
fn what_needs_another_setting_is_refused_without_it() {
    for needs in &NEEDS {
        let (path, beside) = (needs.path(), needs.beside());
        let with = |changed: Option<&String>| {
            let mut settings = beside.clone();
            if let Some(key) = changed {
                settings[key] = otherwise(&settings[key]);
            }
            settings[needs.key] = serde_json::from_str(needs.value).unwrap();
            if needs.policy == "sglang" {
                settings["version"] = json!("0.5.23");
            }
            problems("scheduler", &json!({ needs.policy: settings })).unwrap()
        };
        assert_eq!(with(None), [], "{path}");
        for key in beside.as_object().unwrap().keys() {
            let found = with(Some(key));
            let named = found.iter().any(|(at, message)| *at == path && message.contains(&format!("`{key}")));
            assert!(named, "{path} without {key}: {found:?}");
        }
    }
}

/// What an editor calls wrong is refused, and what is refused an editor calls wrong: at every bound of every number of a policy.
#[test]
fn schema_and_rules_agree_on_every_range() {
    let root: Value = serde_json::from_str(&scenario_schema()).unwrap();
    let router = resolved(&root["properties"]["fleet"], &root)["properties"]["router"].clone();
    let routers = numbers("fleet.router", &router, &root).into_iter();
    let routers = routers.map(|setting| Setting { value: json!({ "router": setting.value }), ..setting });
    let settings: Vec<Setting> =
        numbers("scheduler", &root["properties"]["scheduler"], &root).into_iter().chain(routers).collect();
    let (mut inside, mut outside) = (0, 0);
    for setting in &settings {
        for number in setting.candidates() {
            let (path, schema) = (&setting.path, setting.in_schema(number.as_f64().unwrap()));
            assert_eq!(setting.in_scenario(&number), schema, "{path}: {number}, {}", setting.schema);
            inside += u32::from(schema);
            outside += u32::from(!schema);
        }
    }
    assert!(settings.len() > 100 && inside > 400 && outside > 150, "{} {inside} {outside}", settings.len());
}
