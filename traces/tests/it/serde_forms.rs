//! What a scenario may write.

use overbook_traces::{GenerateSpec, TraceSpec};
use serde_json::{Value, from_value, json, to_value};

#[test]
fn trace_specification_forms() {
    let spec: TraceSpec = from_value(json!({"path": "a.csv"})).expect("short form");
    assert_eq!(spec, TraceSpec::new("a.csv"));
    let full = json!({
        "path": "a.csv.zst", "format": "burstgpt", "keep": {"model": ["GPT-4"], "log_type": ["api"]},
        "skip": 3, "requests": 10, "max_prompt_tokens": 1023, "max_output_tokens": 1023,
        "rate": "30/s", "repeat": 2,
    });
    let spec: TraceSpec = from_value(full.clone()).expect("full form");
    assert_eq!(to_value(&spec).expect("writes"), full);
    let newer = json!({
        "path": "a.jsonl", "format": "auto", "block_tokens": 32, "window": {"from": "9d", "to": "10d"},
        "columns": {"arrival": "t", "prompt": "in", "output": "out", "class": "who", "priority": "p", "unit": "ms"},
        "keep": {"model": [], "log_type": [], "class": ["blue"]}, "failures": "redraw", "spread": "1s",
        "skip": 0, "scale": {"superpose": {"copies": 3, "shift": "1d"}}, "repeat": 1,
    });
    let mut spec: TraceSpec = from_value(newer.clone()).expect("all that is new");
    assert_eq!(to_value(&spec).expect("writes"), newer);
    assert_eq!(spec.problems(), []);
    for scale in [json!({"compress": 2.0}), json!({"multiply": 1.5}), json!({"multiply-to": "40/s"})] {
        spec.scale = from_value(scale.clone()).expect("a way to scale");
        assert_eq!(to_value(&spec).expect("writes")["scale"], scale);
    }
    assert!(from_value::<TraceSpec>(json!({"path": "a", "scale": {"superpose": {"copies": 2}}})).is_ok());
    for unknown in [json!({"path": "a", "speed": 2}), json!({"path": "a", "keep": {"user": []}})] {
        assert!(from_value::<TraceSpec>(unknown).is_err());
    }
}

#[test]
fn generator_specification_forms() {
    let forms = [
        json!({"arrivals": {"constant": {"rate": "2/s"}}, "lengths": "burstgpt", "requests": 5}),
        json!({"arrivals": {"poisson": {"rate": "2/s"}}, "lengths": {"fixed": {"prompt": 5, "output": 6}}, "duration": "60s"}),
        json!({"arrivals": {"gamma": {"rate": "2/s", "shape": 0.5}}, "lengths": "burstgpt", "requests": 5}),
        json!({"arrivals": {"profile": {"rates": ["1/s", "2/s"], "window": "60s", "shape": 1.0}},
               "lengths": {"quantiles": {"prompt": [[0.0, 1], [1.0, 9]], "output": [[0.0, 1], [1.0, 9]]}}, "requests": 5}),
        json!({"arrivals": {"profile": {"rates": ["1/s"], "window": "60s", "shape": 0.5, "gaps": "weibull"}},
               "lengths": {"classes": [{"class": "a", "share": 3.0, "prompt": {"fixed": 5}, "output": {"fixed": 7}},
                                       {"class": "b", "share": 1.0, "prompt": {"fixed": 9}, "output": {"fixed": 1}}]},
               "requests": 5}),
        json!({"arrivals": {"burstgpt-day": {"mean_rate": "2/s", "shape": 1.0}}, "lengths": "burstgpt", "requests": 5}),
        json!({"arrivals": {"weibull": {"rate": "2/s", "shape": 0.5}}, "lengths": "burstgpt-conversation", "requests": 5}),
        json!({"arrivals": {"burstgpt": {"mean_rate": "2/s", "from_hour": 216, "hours": 24, "shape": 1.0, "failures": "keep"}},
               "lengths": {"independent": {
                   "prompt": {"pareto-mixture": {"median": 300, "sigma": 1.0, "tail_share": 0.05, "tail_min": 2000,
                                                 "tail_alpha": 1.5, "max": 32768}},
                   "output": {"log-normal": {"median": 150, "sigma": 1.0, "max": 4096}}}}, "requests": 5}),
        json!({"arrivals": {"poisson": {"rate": "2/s"}},
               "lengths": {"independent": {"prompt": {"zipf": {"exponent": 1.1, "max": 1023}}, "output": {"fixed": 7}}},
               "requests": 5}),
    ];
    for form in forms {
        let spec: GenerateSpec = from_value(form.clone()).expect("reads");
        assert_eq!(spec.problems(), [], "{form}");
        assert_eq!(to_value(&spec).expect("writes"), form);
    }
    let with_default =
        json!({"arrivals": {"burstgpt-day": {"mean_rate": "2/s"}}, "lengths": "burstgpt", "requests": 5});
    assert!(from_value::<GenerateSpec>(with_default).is_ok());
    assert!(
        from_value::<GenerateSpec>(json!({"arrivals": {"burstgpt": {}}, "lengths": "burstgpt", "requests": 5})).is_ok()
    );
    let wrong: [Value; 4] = [
        json!({"arrivals": {"poisson": {"rate": "2/s", "shape": 1}}, "lengths": "burstgpt", "requests": 5}),
        json!({"arrivals": {"poisson": {"rate": 2}}, "lengths": "burstgpt", "requests": 5}),
        json!({"arrivals": {"uniform": {"rate": "2/s"}}, "lengths": "burstgpt", "requests": 5}),
        json!({"arrivals": {"poisson": {"rate": "2/s"}}, "lengths": "burstgpt", "requests": 5, "seed": 1}),
    ];
    for form in wrong {
        assert!(from_value::<GenerateSpec>(form.clone()).is_err(), "{form}");
    }
}

#[test]
fn schemas_refuse_unknown_keys() {
    for schema in [schemars::schema_for!(TraceSpec), schemars::schema_for!(GenerateSpec)] {
        assert_eq!(schema.get("additionalProperties"), Some(&json!(false)));
    }
}
