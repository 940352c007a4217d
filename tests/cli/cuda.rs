//! `--on cuda` of every command, on the emulated driver.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::emulator;
use super::home::{Home, Ran};

const TINY: &str = "\
version: 1
name: tiny
workload:
  generate:
    arrivals: { poisson: { rate: 100/s } }
    lengths: { fixed: { prompt: 12, output: 4 } }
    requests: 6
model: tiny
gpu: none
engine: { kv_tokens: 256, max_model_len: 32, cost: { constant: { device: 2ms } } }
scheduler: { vllm: { max_num_seqs: 2, max_num_batched_tokens: 16 } }
";

/// Tokens of prompts go at their end, and two more at once while requests decode.
const LAZY: &str = "{ policy: key-diff, budget: 8, every: 2, prompt: at-end }";

/// Kernels and products compute nothing: for what does not look at tokens.
const NULL: (&str, &str) = ("OVERBOOK_EMULATOR_NULL", "1");

fn home() -> Home {
    let home = Home::new();
    home.write("tiny.yaml", TINY);
    home
}

fn command(home: &Home, args: &str, settings: &[(&str, &str)]) -> Command {
    let mut command = emulator::command(Path::new(env!("CARGO_BIN_EXE_overbook")), settings);
    command.args(args.split_whitespace()).current_dir(home.path("")).stdin(Stdio::null());
    command
}

fn overbook(home: &Home, args: &str, settings: &[(&str, &str)]) -> Ran {
    Ran::of(&command(home, args, settings).output().expect("the program starts"))
}

/// Starts the program, and reads its stderr up to a line that contains a text. What it said, and the rest.
fn until(mut command: Command, text: &str) -> (Child, String, BufReader<std::process::ChildStderr>) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr"));
    let (mut said, mut line) = (String::new(), String::new());
    while !line.contains(text) {
        line.clear();
        assert!(stderr.read_line(&mut line).expect("text") > 0, "it ended: {said}");
        said.push_str(&line);
    }
    (child, line, stderr)
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

#[test]
fn a_run_is_without_graphs_and_drawn_as_the_scenario_says() {
    let home = home();
    home.write("file", "");
    let kept = home.path("file/cache");
    let settings = [("OVERBOOK_CACHE", kept.to_str().expect("UTF-8"))];
    let args = "run tiny.yaml --on cuda --out r --set engine.enforce_eager=true --set workload.temperature=0.7";
    let ran = overbook(&home, args, &settings).ends(0);
    assert!(ran.out.contains("6 of 6 finished"), "{}", ran.out);
    let page = home.text("r/report.html");
    assert!(page.contains("CUDA engine without graphs, Emulated GPU"));
    assert!(page.contains("at temperature 0.7") && page.contains("6 requests, 0 differences, digests equal"));
    // Minutes on a real GPU, and again at every start if nothing can be kept.
    assert!(ran.err.contains("warning: cannot write to ") && ran.err.contains("OVERBOOK_CACHE"), "{}", ran.err);
    assert!(ran.err.contains("matrix products are tuned for this GPU: 0 of "), "{}", ran.err);
    assert!(ran.err.contains("tuning done: ") && !ran.err.contains("kept in"), "{}", ran.err);
}

#[test]
fn tuning_stops_on_ctrl_c_and_is_kept() {
    let home = home();
    let kept = home.path("cache");
    let settings = [("OVERBOOK_CACHE", kept.to_str().expect("UTF-8"))];
    // Many sequences are many shapes.
    let args = "serve tiny.yaml --on cuda --port 0 --set engine.kv_tokens=4096 \
                --set scheduler.vllm.max_num_seqs=256 --set scheduler.vllm.max_num_batched_tokens=256";
    let (child, _, mut stderr) =
        until(command(&home, args, &settings), "matrix products are tuned for this GPU: 0 of ");
    signal(&child, "-INT");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(130), "{rest}");
    assert!(rest.contains("tuning interrupted: ") && rest.contains("interrupted: nothing was run"), "{rest}");
    assert!(!rest.contains("serving on"), "{rest}");
    assert!(home.names("cache").iter().any(|name| name.starts_with("cublaslt-")), "{:?}", home.names("cache"));
}

#[test]
fn the_simulator_makes_its_batches() {
    let home = home();
    let ran = overbook(&home, "validate tiny.yaml --on cuda --replay", &[]).ends(0);
    assert!(ran.out.contains("6 requests, 0 differences"), "{}", ran.out);
    // One run says nothing of others.
    let once = overbook(&home, "validate tiny.yaml --on cuda --repeats 1", &[NULL]).ends(0);
    assert!(once.out.contains("unknown") && !once.out.contains("inf %"), "{}", once.out);
}

/// Budgets of slots: the GPU evicts, and the simulator makes the same batches with the same blocks.
#[test]
fn requests_that_keep_only_some_tokens_are_replayed_without_a_difference() {
    let home = home();
    let own = "--set scheduler.vllm.enable_prefix_caching=false --set engine.retention";
    for retention in [".budget=6 --set engine.retention.policy.trim-kv.window=0", "=LAZY"] {
        let args = format!("validate tiny.yaml --on cuda --replay {own}{retention}");
        let args: Vec<String> = args.split_whitespace().map(|word| word.replace("LAZY", LAZY)).collect();
        let mut command = command(&home, "", &[]);
        let ran = Ran::of(&command.args(args).output().expect("the program starts")).ends(0);
        assert!(ran.out.contains("6 requests, 0 differences"), "{retention}: {}", ran.out);
    }
    let args = format!("run tiny.yaml --on cuda --out r {own}.budget=12 --set engine.retention.policy");
    let lacks = overbook(&home, &(args.clone() + ".snap-kv.window=8"), &[]).ends(2).err;
    assert!(lacks.contains("the CUDA engine has no `snap-kv`") && lacks.contains("use `--on cpu`"), "{lacks}");
    let ran = overbook(&home, &(args + "=window"), &[NULL]).ends(0);
    assert!(ran.out.contains("requests lost tokens"), "{}", ran.out);
}

#[test]
fn steps_are_measured_and_price_the_scenario() {
    let home = home();
    let args = "calibrate tiny.yaml --on cuda --repeat-for 1ns --out p.yaml";
    let ran = overbook(&home, args, &[NULL]).ends(0);
    assert!(ran.out.contains(" on 1 × Emulated GPU"), "{}", ran.out);
    assert_eq!(home.names(""), ["p.steps.parquet", "p.yaml", "tiny.yaml"]);
    home.run(["run", "tiny.yaml", "--set", "engine.cost={ steps: { path: p.yaml } }", "--out", "r"]).ends(0);
    // A profile does not say that its steps are without graphs.
    let eager = " --set engine.enforce_eager=true";
    let refused = overbook(&home, &(args.to_owned() + " --force" + eager), &[NULL]).ends(2);
    assert!(refused.err.contains("set `engine.enforce_eager: false`"), "{}", refused.err);
}

/// Long enough for whole seconds, and for batches that differ.
const POWERED: &str = "\
version: 1
name: powered
workload:
  generate:
    arrivals: { poisson: { rate: 12/s } }
    lengths: { fixed: { prompt: 20, output: 8 } }
    requests: 24
model: tiny
gpu: none
engine: { kv_tokens: 2048, max_model_len: 64, cost: { constant: { device: 2ms } } }
scheduler: { vllm: { max_num_seqs: 8, max_num_batched_tokens: 32 } }
";

/// A stand-in draws by the catalog's H100, with noise: the law is found again beside the steps, and a run's energy is that of its simulation.
/// Wrong coefficients show.
#[test]
fn watts_are_measured_beside_steps_and_compared_with_a_run() {
    let home = home();
    home.write("powered.yaml", POWERED);
    let ran = overbook(&home, "calibrate powered.yaml --on cuda --repeat-for 20ms --power-for 400ms --out p.yaml", &[]);
    let ran = ran.ends(0);
    assert!(
        ran.out.contains("power: EMULATED, ") && ran.out.contains("exponent of the clock is a prior"),
        "{}",
        ran.out
    );
    let profile = home.text("p.yaml");
    let number = |from: &str, key: &str| -> f64 {
        let part = &profile[profile.find(from).unwrap_or_else(|| panic!("{from} in {profile}"))..];
        let line = part.lines().find(|line| line.trim_start().starts_with(key)).unwrap_or_else(|| panic!("{key}"));
        let value = line.split(':').nth(1).expect("a value").trim().trim_end_matches('W');
        value
            .strip_suffix('k')
            .map_or_else(|| value.parse().expect("a number"), |kilo| 1e3 * kilo.parse::<f64>().expect("a number"))
    };
    for (key, known) in [("compute:", 828.7), ("memory:", 384.7)] {
        let (got, error) = (number("law:", key), number("\n  errors:", key));
        // The exponents are found, too; with others the coefficients are others, and watts are told by the residual.
        let near = |key: &str, known: f64| (number("law:", key) - known).abs() < 1e-9;
        if near("compute_exponent:", 1.0) && near("memory_exponent:", 0.5) {
            assert!((got - known).abs() < 4.0 * error, "{key} {got} +- {error}, {known} was put in");
        }
        assert!(error > 0.0 && error < 0.3 * known, "{key} {error}");
    }
    assert!(
        (number("law:", "idle:") / 120.4 - 1.0).abs() < 0.02 && number("power:", "residual_percent:") < 4.0,
        "{profile}"
    );
    assert!(profile.contains("EMULATED, no GPU: overbook calibrate on Emulated GPU"), "{profile}");

    let compare = |profile: &str, out: &str| {
        let cost = format!("engine.cost={{ steps: {{ path: {profile} }} }}");
        let mut command = command(&home, "validate powered.yaml --on cuda --repeats 1 --json --out", &[]);
        let ran = Ran::of(&command.args([out, "--set", &cost]).output().expect("the program starts")).ends(0);
        let json: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
        let power = json["points"][0]["power"].clone();
        assert_eq!(power["emulated"], true, "{power}");
        let energy = power["figures"][0]["error"].as_f64().expect("an error");
        (energy, power["seconds"]["mean"].as_f64().expect("seconds"))
    };
    let (energy, seconds) = compare("p.yaml", "right");
    // Times of emulated steps are the machine's, which is busy with other tests: the bars of a GPU are not for here.
    assert!(energy.abs() < 0.6 && seconds.is_finite() && seconds > 0.0, "{energy} {seconds}");
    let right = energy;
    let page = home.text("right/fidelity.html");
    assert!(page.contains("Power: EMULATED, no GPU") && page.contains("power second by second"), "{page}");
    // The planted fault: all watts of the law are half of what they are, which shows however busy the machine was.
    let halved = |line: &str| {
        let (key, value) = line.trim_start().split_once(": ")?;
        let known = ["idle", "resident", "compute", "memory"].contains(&key);
        let watts = value.strip_suffix('W').filter(|_| known)?;
        let (number, unit) = watts.strip_suffix('k').map_or((watts, "W"), |kilo| (kilo, "kW"));
        let indent = &line[..line.len() - line.trim_start().len()];
        Some(format!("{indent}{key}: {}{unit}", number.parse::<f64>().ok()? / 2.0))
    };
    let wrong: Vec<String> = profile.lines().map(|line| halved(line).unwrap_or_else(|| line.to_owned())).collect();
    home.write("wrong.yaml", wrong.join("\n"));
    let (energy, _) = compare("wrong.yaml", "wrong");
    assert!(energy < right - 0.2, "{energy}, {right} with the right one");
}

/// Without watts that mean anything nothing is compared, and why is said.
#[test]
fn watts_that_cannot_be_had_are_not_compared() {
    let home = home();
    let ran = overbook(&home, "validate tiny.yaml --on cuda --repeats 1", &[NULL]).ends(0);
    assert!(ran.out.contains("power: not measured: the GPU is emulated"), "{}", ran.out);
    let cpu = home.run(["validate", "tiny.yaml", "--on", "cpu", "--repeats", "1"]).ends(0);
    assert!(cpu.out.contains("power: not measured: a CPU has no meter here"), "{}", cpu.out);
    let refused = home.run(["calibrate", "tiny.yaml", "--on", "cpu", "--power-for", "1s", "--out", "p.yaml"]).ends(2);
    assert!(refused.err.contains("--power-for is for --on cuda"), "{}", refused.err);
    // Too few operating points: no law, and the steps are kept.
    let args = "calibrate tiny.yaml --on cuda --repeat-for 1ns --power-for 60ms --out p.yaml --set scheduler.vllm.max_num_seqs=1";
    let few = overbook(&home, args, &[NULL]).ends(0);
    assert!(
        few.out.contains("power: not measured: ") && few.out.contains("a fit needs at least 9 at full clock"),
        "{}",
        few.out
    );
    assert!(!home.text("p.yaml").contains("power:"), "{}", home.text("p.yaml"));
}

#[test]
fn a_model_is_served() {
    let home = home();
    let (child, line, mut stderr) = until(command(&home, "serve tiny.yaml --on cuda --port 0", &[]), "serving on ");
    let at = line.split(['/', ' ']).find(|word| word.contains(':') && !word.starts_with("http")).expect("an address");
    let body = r#"{"prompt": "hello", "max_tokens": 4, "ignore_eos": true}"#;
    let mut stream = TcpStream::connect(at).expect("it listens");
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("\"completion_tokens\":4"), "{answer}");
    signal(&child, "-TERM");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(0), "{rest}");
}

#[test]
fn what_the_machine_fails_at_is_no_invalid_input() {
    let home = home();
    let broken = ("OVERBOOK_EMULATOR_EDIT", "exp2_fast(-LOG2_E * g[i])=>no_such_name");
    let ran = overbook(&home, "run tiny.yaml --on cuda --out r", &[broken]).ends(1);
    assert!(ran.err.contains("the kernels do not compile: silu_mul"), "{}", ran.err);
    let large = overbook(&home, "run tiny.yaml --on cuda --out r --set engine.kv_tokens=1073741824", &[]).ends(2);
    assert!(
        large.err.contains(" bytes are available") && large.err.contains("set `engine.kv_tokens: "),
        "{}",
        large.err
    );
    assert_eq!(home.names(""), ["tiny.yaml"]);
}
