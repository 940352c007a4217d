//! Rows and power policies: what resolves, what is refused and with which numbers.

use overbook_scenarios::Source;

use super::problems;

/// A row of two DGX A100, and what is different about it.
fn row(rest: &str, fleet: &str) -> String {
    format!(
        "version: 1
name: row
workload:
  generate: {{ arrivals: {{ poisson: {{ rate: 1/s }} }}, lengths: {{ fixed: {{ prompt: 100, output: 10 }} }}, requests: 10 }}
model: llama-3.1-70b
fleet: {{ server: dgx-a100, replicas: 3, tensor_parallel: 4{fleet} }}
{rest}"
    )
}

fn points(text: &str) -> Vec<overbook_scenarios::Point> {
    Source::from_text("row", text).resolve().unwrap().points().to_vec()
}

#[test]
fn a_row_is_looked_up_and_filled_in() {
    let point = &points(&row("power: polca\n", ""))[0];
    let spec = point.scenario.fleet.row.as_ref().unwrap();
    assert!(spec.server.is_some() && spec.rated.is_some_and(|watts| (watts.0 - 6500.0).abs() < 1e-9));
    let power = point.power().unwrap().unwrap();
    // Three replicas of four GPUs on two servers of eight, half of which are of low priority.
    assert_eq!(
        power.servers.iter().map(|server| server.replicas.clone()).collect::<Vec<_>>(),
        [vec![(0, 4), (1, 4)], vec![(2, 4)]]
    );
    assert_eq!(
        power.servers.iter().map(|server| (server.spare, server.low)).collect::<Vec<_>>(),
        [(0, false), (4, true)]
    );
    assert_eq!((power.feed.budget.0, power.feed.breaker.0), (13_000_000, 16_250_000));
    assert_eq!((power.clocks.max, power.brake.clock), (1410, 288));
    // What is written out is read back as the same.
    let again = &points(&point.scenario.to_yaml())[0];
    assert_eq!(again.scenario, point.scenario);
    assert!(point.cluster().unwrap().devices.len() == 1 && point.cluster().unwrap().power.is_some());
}

#[test]
fn without_power_nothing_is_counted() {
    let point = &points(&row("", ""))[0];
    assert!(point.power().unwrap().is_none() && point.scenario.fleet.row.is_none());
    assert!(point.cluster().unwrap().devices.is_empty());
}

#[test]
fn servers_keep_their_priority_when_others_come() {
    let lows = |replicas: u32| -> Vec<bool> {
        let fleet = format!(
            "fleet: {{ server: dgx-a100, replicas: {replicas}, tensor_parallel: 8, row: {{ low_priority: 0.3 }} }}"
        );
        let text =
            row("power: none\n", "").replace("fleet: { server: dgx-a100, replicas: 3, tensor_parallel: 4 }", &fleet);
        let power = points(&text)[0].power().unwrap().unwrap();
        power.servers.iter().map(|server| server.low).collect()
    };
    let (few, many) = (lows(10), lows(20));
    assert_eq!(few, many[..10]);
    assert_eq!((few.iter().filter(|low| **low).count(), many.iter().filter(|low| **low).count()), (3, 6));
}

#[test]
fn what_cannot_be_run_is_refused_with_numbers() {
    let told = |rest: &str, fleet: &str| problems(&row(rest, fleet)).join("\n");
    let low = told("power: polca\n", ", row: { budget: 3kW }");
    assert!(low.contains("is 3kW, and the 2 servers of the row draw") && low.contains("with nothing to do"), "{low}");
    let clocks = told("power: { polca: { clocks: { low: 1980 } } }\n", "");
    assert!(clocks.contains("is 1980 MHz; the GPU runs from 210 to 1410 MHz"), "{clocks}");
    let order = told("power: { polca: { thresholds: { given: { lower: 0.9, upper: 0.8 } } } }\n", "");
    assert!(order.contains("is 0.9; it must be above 0 and below `upper` (0.8)"), "{order}");
    let gap = told("power: { polca: { hysteresis: 0.2 } }\n", "");
    assert!(gap.contains("above the gap between the thresholds"), "{gap}");
    let brake = told("power: none\n", ", row: { brake: { clock: 5000 } }");
    assert!(brake.contains("is 5000 MHz; the GPU runs from 210 to 1410 MHz"), "{brake}");
    let resolution = told("power: none\n", ", row: { resolution: 300ms }");
    assert!(resolution.contains("of which no whole number makes a telemetry period of 2s"), "{resolution}");
    let site = told("power: none\n", ", row: { site: moon }");
    assert!(site.contains("no site is called `moon`"), "{site}");
    let unknown = problems(&row("power: none\n", "").replace("server: dgx-a100", "server: aws-g5.48xlarge")).join("\n");
    assert!(unknown.contains("has no known power law"), "{unknown}");
    let beside = problems(&row("power: none\n", "").replace("server: dgx-a100", "server: azure-nd-a100-v4")).join("\n");
    assert!(beside.contains("the catalog does not know what"), "{beside}");
    let homeless =
        problems(&row("power: none\n", "").replace("server: dgx-a100, ", "").replace("model:", "gpu: a100-80\nmodel:"));
    assert!(homeless.join("\n").contains("needs `fleet.server`"), "{homeless:?}");
}

#[test]
fn replicas_have_clients_of_their_own() {
    let text = |replicas: u32| {
        row("power: none\n", "")
            .replace("replicas: 3", &format!("replicas: {replicas}"))
            .replace("workload:\n", "workload:\n  per_replica: true\n")
    };
    let arrivals = |replicas: u32| {
        let mut workload = points(&text(replicas))[0].workload().unwrap();
        std::iter::from_fn(move || workload.next_arrival().unwrap()).collect::<Vec<_>>()
    };
    let (few, many) = (arrivals(2), arrivals(5));
    assert_eq!((few.len(), many.len()), (20, 50));
    assert!(few.windows(2).all(|pair| pair[0].at <= pair[1].at));
    // A replica gets the same, however many there are.
    for home in 0..2 {
        let of = |all: &[overbook_sim::workload::arrival::Arrival]| {
            all.iter().filter(|arrival| arrival.home == Some(home)).map(|arrival| arrival.at).collect::<Vec<_>>()
        };
        assert_eq!(of(&few), of(&many));
    }
    let none =
        row("power: none\n", ", row: { dedicated: true }").replace("workload:\n", "workload:\n  per_replica: true\n");
    let error = points(&none)[0].workload().err().unwrap().to_string();
    assert!(error.contains("no class of low priority"), "{error}");
}
