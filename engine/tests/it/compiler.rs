//! The kernels as NVIDIA's compiler makes them: all of them compile for all GPUs, none spills, and what they take of a
//! multiprocessor is a table in the tree.

use std::fmt::Write as _;
use std::path::Path;

use overbook_engine::cuda::compile::{Compiler, Options};
use overbook_kernels::cuda::{CEILINGS, SOURCES, Source};

use crate::emulator::{is_child, run_with, said};

const TEST: &str = "compiler::by_nvrtc::the_table_of_registers_is_up_to_date";
/// A100, H100, B200.
const GPUS: [u32; 3] = [80, 90, 100];
/// Widths of heads, and query heads for each KV head, that models have.
const SHAPES: [(u32, u32); 9] = [(32, 4), (64, 1), (64, 4), (64, 7), (96, 1), (128, 1), (128, 4), (128, 7), (128, 16)];
/// Widths of their residual streams, up to the widest.
const HIDDEN: [u32; 5] = [896, 2048, 4096, 8192, 16384];

/// What a kernel takes, as the assembler says.
struct Entry {
    kernel: String,
    registers: u32,
    /// Static shared memory [bytes].
    shared: u32,
    /// Local memory: of arrays that are not in registers, and of registers that were spilled [bytes].
    stack: u32,
    spilled: u32,
}

fn number_before(text: &str, unit: &str) -> Option<u32> {
    text.split_once(unit)?.0.split([' ', ',']).rfind(|word| !word.is_empty())?.parse().ok()
}

fn entries(log: &str) -> Vec<Entry> {
    let kernels = log.split("Compiling entry function '").skip(1);
    let entry = |text: &str| {
        let number = |unit| number_before(text, unit).unwrap_or_else(|| panic!("no{unit} in {log}"));
        Entry {
            kernel: text.split_once('\'').expect("a name").0.to_owned(),
            registers: number(" registers"),
            // Not said where there is none.
            shared: number_before(text, " bytes smem").unwrap_or(0),
            stack: number(" bytes stack frame"),
            spilled: number(" bytes spill stores") + number(" bytes spill loads"),
        }
    };
    kernels.map(entry).collect()
}

/// The shapes that make a difference for a source.
fn shapes(source: &Source) -> Vec<Vec<(&'static str, u32)>> {
    let mut all = Vec::new();
    for ((head_dim, group), hidden) in SHAPES.into_iter().flat_map(|shape| HIDDEN.map(|hidden| (shape, hidden))) {
        let mut defines = vec![("HEAD_DIM", head_dim), ("GROUP", group), ("BLOCK_SHIFT", 4), ("HIDDEN", hidden)];
        defines.retain(|(name, _)| source.takes.contains(name));
        if !all.contains(&defines) {
            all.push(defines);
        }
    }
    all
}

/// The table, and the kernels that spill.
fn table() -> (String, Vec<String>) {
    let compiler = Compiler::find().expect("NVRTC");
    assert_eq!(compiler.version(), (13, 0), "the table is of NVRTC 13.0.88");
    let mut table =
        "kernel,compute_capability,head_dim,group,hidden,registers,static_shared_bytes,stack_bytes\n".to_owned();
    let mut spills = Vec::new();
    for source in SOURCES.iter().chain([&CEILINGS]) {
        for defines in shapes(source) {
            for sm in GPUS {
                let options = Options { sm, defines: defines.clone() };
                let compiled = compiler.compile_with(source, &options, &["--ptxas-options=-v"]);
                let compiled = compiled.unwrap_or_else(|error| panic!("{} for {options:?}: {error}", source.name));
                let entries = entries(&compiled.log);
                assert_eq!(entries.len(), source.kernels.len(), "{}", compiled.log);
                let define = |name| defines.iter().find(|define| define.0 == name);
                let define = |name| define(name).map_or_else(|| "any".to_owned(), |define| define.1.to_string());
                for Entry { kernel, registers, shared, stack, spilled } in entries {
                    let row = format!("{kernel},{sm},{},{},{}", define("HEAD_DIM"), define("GROUP"), define("HIDDEN"));
                    if spilled > 0 {
                        spills.push(format!("{row}: {spilled} bytes"));
                    }
                    writeln!(table, "{row},{registers},{shared},{stack}").expect("memory");
                }
            }
        }
    }
    (table, spills)
}

/// `UPDATE_REGISTERS=1` writes the table.
fn the_table_of_registers_is_up_to_date() {
    if !is_child(TEST) {
        // The loader reads its path when a process starts.
        let output = run_with(TEST, &overbook_test_groups::nvrtc());
        assert!(output.status.success() && said(&output).contains("1 passed"), "{}", said(&output));
        return;
    }
    let (table, spills) = table();
    assert!(spills.is_empty(), "kernels spill registers: {spills:#?}");
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels/registers.csv"));
    if std::env::var_os("UPDATE_REGISTERS").is_some() {
        std::fs::write(path, &table).expect("the table can be written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let other: Vec<_> = table.lines().filter(|line| !committed.lines().any(|before| before == *line)).collect();
    assert!(
        committed == table,
        "kernels/registers.csv is out of date; run this test with UPDATE_REGISTERS=1 to write it. New: {other:#?}"
    );
}

#[test]
fn the_assemblers_report_is_understood() {
    let log = "ptxas info    : 20 bytes gmem\n\
        ptxas info    : Compiling entry function 'one' for 'sm_90'\n\
        ptxas info    : Function properties for one\n\
        ptxas         .     16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n\
        ptxas info    : Used 50 registers, used 1 barriers, 32 bytes smem\n\
        ptxas info    : Compiling entry function 'two' for 'sm_90'\n\
        ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
        ptxas info    : Used 255 registers, used 0 barriers\n";
    let read: Vec<_> =
        entries(log).iter().map(|e| (e.kernel.clone(), e.registers, e.shared, e.stack, e.spilled)).collect();
    assert_eq!(read, [("one".to_owned(), 50, 32, 16, 20), ("two".to_owned(), 255, 0, 0, 0)]);
}

overbook_test_groups::by_nvrtc!(the_table_of_registers_is_up_to_date);
