//! `overbook serve`: a scenario's engine behind OpenAI's API.

use std::env::VarError;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use overbook::{TOOL, verdicts};
use overbook_engine::driver::{Clock, Driver};
use overbook_engine::serve::{Books, ServeError, Settings, serve};
use overbook_reports::manifest::Start;
use overbook_reports::parquet::ParquetRecorder;
use overbook_reports::summary_json::summary_json;
use overbook_reports::{Report, RunDir, Status, html, terminal};
use overbook_scenarios::Point;
use overbook_scenarios::facts::assumptions;
use overbook_scenarios::scenario::ModelChoice;
use overbook_sim::fleet::ClusterSpec;
use overbook_sim::results::rows::{Discard, RecordError, Recorder};
use overbook_sim::results::summary::Summary;
use overbook_sim::results::timeline::Timeline;

use crate::check::load;
use crate::cli::{Globals, ServeArgs};
use crate::device::Device;
use crate::facts;
use crate::output::{DONE, FAILED, Failure, color_stdout, note, print_painted};
use crate::place;
use crate::watch::{catch_interrupts, interrupted};

pub(crate) fn run(args: &ServeArgs, globals: &Globals) -> Result<u8, Failure> {
    let start = Start::now();
    let study = load(&args.scenario, globals)?;
    if study.plan().is_sweep() {
        return Err(Failure::Input("serve takes one scenario, this is a study; choose a point with --set".into()));
    }
    if args.device.on.is_none() {
        return Err(Failure::Input("serve needs a device; add --on cpu or --on cuda".into()));
    }
    let point = &study.points()[0];
    let spec = point.cluster().map_err(Failure::input)?;
    if spec.replicas != 1 {
        return Err(Failure::Input("serve runs one replica; add --set fleet.replicas=1".into()));
    }
    // A key that no client can send is refused before weights are read.
    api_key(args.api_key.as_ref())?;
    let listener = listen(SocketAddr::new(args.host, args.port))?;
    catch_interrupts();
    let device = Device::open(point, &args.device, globals)?;
    let dir = args.out.as_deref().map(|out| place::run_dir(out, args.force)).transpose()?;
    let mut recorder = match &dir {
        Some(dir) => Some(ParquetRecorder::create(dir.path(), true).map_err(anyhow::Error::new)?),
        None => None,
    };
    let (ended, kept) = match &mut recorder {
        Some(recorder) => serving(args, point, &spec, &device, listener, recorder)?,
        None => serving(args, point, &spec, &device, listener, &mut Discard)?,
    };
    let (Some(dir), Some(recorder)) = (dir, recorder) else { return ended.map(|()| DONE) };
    recorder.finish(&["all".to_owned()]).map_err(anyhow::Error::new)?;
    let (summary, timeline) = kept.map_err(|error| {
        Failure::Run(anyhow::Error::from_boxed(error).context("requests were served, but not all could be recorded"))
    })?;
    let out = args.out.clone().unwrap_or_default();
    // What was served before an engine broke down was served.
    let (status, code) = if ended.is_ok() { (Status::Complete, DONE) } else { (Status::Interrupted, FAILED) };
    write(&dir, &out, point, &device, (summary, timeline, status), globals)?;
    let plan = (point.plan_hash(), point.scenario.seed);
    let manifest = start.manifest(&facts::BUILD, facts::open_command(), plan, &[], (status, code));
    dir.finish(&manifest).map_err(anyhow::Error::new)?;
    ended.map(|()| DONE)
}

fn listen(at: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(at).map_err(|error| {
        Failure::Input(format!("cannot listen on {at}: {error}; choose another --host or --port (0: any free one)"))
    })
}

/// How serving ended, and what of it could be recorded.
type Served = (Result<(), Failure>, Result<(Summary, Timeline), RecordError>);

fn serving(
    args: &ServeArgs,
    point: &Point,
    spec: &ClusterSpec,
    device: &Device,
    listener: TcpListener,
    recorder: &mut dyn Recorder,
) -> Result<Served, Failure> {
    let executor = device.executor(spec)?;
    let vocab = executor.capacity().vocab;
    let scheduler = spec.scheduler.build(spec.seed, 0);
    let mut driver = Driver::with_store(spec.limits, &spec.store, scheduler, executor).map_err(Failure::input)?;
    let model = match (&args.served_model_name, &point.scenario.model) {
        (Some(name), _) | (None, ModelChoice::Named(name)) => name.clone(),
        (None, ModelChoice::Inline(_)) => point.model.name.clone(),
    };
    let mut settings = Settings::new(&model, spec.limits, vocab);
    settings.tokenizer = Arc::new(device.tokenizer()?);
    if let Some(broken) = settings.tokenizer.broken_template() {
        note(&format!("warning: conversations will be refused: {broken}"));
    }
    settings.seed = spec.seed;
    settings.api_key = api_key(args.api_key.as_ref())?;
    settings.max_waiting = args.max_waiting;
    settings.max_body = (args.max_body_mib as usize) << 20;
    settings.max_connections = args.max_connections.get();
    settings.idle_timeout = std::time::Duration::from_nanos(args.idle_timeout.0.0);
    settings.allowed_hosts.clone_from(&args.allow_host);
    settings.request_timeout = std::time::Duration::from_nanos(args.request_timeout.0.0);
    settings.drain_timeout = std::time::Duration::from_nanos(args.drain_timeout.0.0);
    tell(&listener, &settings, device)?;
    let mut books = Books::new(spec.slo, recorder);
    let clock = Clock::new(Instant::now());
    let ended = match serve(settings, listener, &mut driver, clock, &mut books, interrupted) {
        Ok(0) => Ok(()),
        Ok(left) => {
            note(&format!("warning: {left} requests had not finished within --drain-timeout and were ended"));
            Ok(())
        }
        Err(error @ ServeError::Vocabulary { .. }) => return Err(Failure::input(error)),
        Err(error) => Err(Failure::Run(anyhow::Error::new(error))),
    };
    let kept = books.finish(&spec.limits).map(|(mut summary, timeline)| {
        // A device that is lost does not say what it has copied; what was served is in the books all the same.
        summary.retained = driver.retained();
        summary.kv = driver.kv_traffic().ok().flatten().map(|(traffic, _)| traffic);
        (summary, timeline)
    });
    Ok((ended, kept))
}

/// The key that clients must send, if there is one. An empty one would let every client in.
fn api_key(given: Option<&String>) -> Result<Option<String>, Failure> {
    let key = match (given, std::env::var("OVERBOOK_API_KEY")) {
        (Some(key), _) => Some(key.clone()),
        (None, Ok(key)) => Some(key),
        (None, Err(VarError::NotPresent)) => None,
        (None, Err(VarError::NotUnicode(_))) => {
            return Err(Failure::Input("OVERBOOK_API_KEY is not UTF-8".into()));
        }
    };
    match &key {
        Some(key) if key.trim().is_empty() => {
            Err(Failure::Input("the API key is empty; leave out --api-key and OVERBOOK_API_KEY, or give one".into()))
        }
        Some(key) if !key.bytes().all(|byte| byte.is_ascii_graphic()) => Err(Failure::Input(
            "no client can send this API key: use ASCII letters, digits and signs alone, without spaces".into(),
        )),
        _ => Ok(key),
    }
}

/// Says where the server is, and from where it can be reached.
fn tell(listener: &TcpListener, settings: &Settings, device: &Device) -> Result<(), Failure> {
    let at = listener.local_addr().map_err(anyhow::Error::new)?;
    let secret = settings.api_key.is_some();
    if !is_private(at.ip()) {
        let how = if secret { "with the API key, unencrypted" } else { "without an API key (--api-key)" };
        note(&format!("warning: other machines can reach {at}, {how}"));
    }
    note(&format!("{}: {}", settings.model, device.describe()));
    note(&format!("serving on http://{at}/v1; Ctrl-C or SIGTERM drains and stops"));
    Ok(())
}

fn is_private(at: IpAddr) -> bool {
    at.is_loopback()
}

/// What was served, as a run directory.
fn write(
    dir: &RunDir,
    out: &Path,
    point: &Point,
    device: &Device,
    (summary, timeline, status): (Summary, Timeline, Status),
    globals: &Globals,
) -> Result<(), Failure> {
    let mut assumptions = assumptions(point).map_err(Failure::input)?;
    assumptions.retain(|(what, _)| !["Step cost", "Workload", "Output lengths"].contains(&what.as_str()));
    assumptions.push(("Served by".to_owned(), device.describe()));
    let scenario = &point.scenario;
    let report = Report {
        title: format!("{}, served over HTTP", scenario.description.as_deref().unwrap_or(&scenario.name)),
        status,
        verdicts: verdicts(scenario, &summary),
        assumptions,
        remarks: Vec::new(),
        trust: None,
        trace_rows: Vec::new(),
        calibration: format!("measured, not simulated: {}", device.describe()),
        command: facts::open_command().join(" "),
        tool: TOOL.to_owned(),
        directory: out.display().to_string(),
        summary,
        timeline,
        traffic: None,
        recorded_traffic: None,
        clock: None,
    };
    let page = html::report_html_with(&report, &[]).map_err(anyhow::Error::new)?;
    for (name, text) in
        [("scenario.resolved.yaml", scenario.to_yaml()), ("summary.json", summary_json(&report)), ("report.html", page)]
    {
        dir.write(name, text).map_err(anyhow::Error::new)?;
    }
    print_painted(&terminal::summary(&report, color_stdout(globals)))
}
