//! The committed JSON Schema is the one the types give.

use overbook_scenarios::scenario_schema;
use serde_json::Value;

#[test]
fn committed_schema_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scenario.schema.json");
    let schema = scenario_schema();
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == schema, "{path} is out of date; run this test with UPDATE_SCHEMA=1 to write it");
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
