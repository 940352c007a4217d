//! Any bytes are either a trace of requests in order of arrival or an error with help.
#![no_main]

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use overbook_traces::TraceSpec;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("it is written");
    let Ok(mut workload) = TraceSpec::new(file.path()).open() else { return };
    let mut last = None;
    // Packed bytes may stand for very many rows.
    for _ in 0..100_000 {
        match workload.next_arrival() {
            Ok(Some(arrival)) => {
                assert!(arrival.prompt_tokens > 0 && arrival.output_tokens > 0);
                assert!(last <= Some(arrival.at), "in order");
                last = Some(arrival.at);
            }
            Ok(None) => return,
            Err(error) => return assert!(error.to_string().contains("; help: "), "{error}"),
        }
    }
});
