//! What a user sees where the machine lacks something: a message that says what, and never a panic. What was kept and is damaged
//! costs time alone.

use std::fs;
use std::path::{Path, PathBuf};

use overbook_engine::config::Config;
use overbook_engine::cuda::{CudaExecutor, Gpu, Model, software};
use overbook_engine::executor::BuildError;
use overbook_engine::weights::Dummy;

use crate::emulator::{emulated, folder};
use crate::mix;

/// A model so small that nothing takes long.
fn config() -> Config {
    let tiny = Config::preset("tiny").expect("a preset");
    Config {
        layers: 1,
        hidden: 64,
        intermediate: 96,
        heads: 6,
        kv_heads: 2,
        head_dim: 32,
        vocab: 1024,
        max_positions: 160,
        ..tiny
    }
}

fn model() -> std::sync::Arc<Model> {
    Model::load(0, config(), &Dummy { seed: 1 }).expect("a model")
}

/// Why no GPU can be opened.
fn no_gpu() -> String {
    Gpu::open(0).expect_err("refused").to_string()
}

/// Why there is no device for the model, and no executor of one that was loaded without looking for everything.
fn no_executor() -> String {
    let device = software(&Gpu::open(0).expect("a GPU")).map(|_| ()).expect_err("refused").to_string();
    let executor = CudaExecutor::new(model(), mix::capacity(1024, 16)).map(|_| ()).expect_err("refused").to_string();
    assert_eq!(device, executor);
    executor
}

/// The stand-in's folder, but for some libraries: those are found under all names that are tried, and cannot be loaded.
fn without(name: &str) -> tempfile::TempDir {
    let made = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(folder()).expect("the stand-in") {
        let from = entry.expect("an entry").path();
        let file = from.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        if file.contains(".so") && !file.starts_with(name) {
            std::os::unix::fs::symlink(&from, made.path().join(&file)).expect("a link");
        }
    }
    let versions = ["", ".13", ".12", ".11", ".10", ".9", ".1"].map(|version| format!("{name}.so{version}"));
    let widths =
        ["", "_13", "_130", "_130_0", "_130_0", "_10", "_11", "_12", "_9"].map(|end| format!("{name}64{end}.so"));
    for file in versions.iter().chain(&widths) {
        fs::write(made.path().join(file), "no library").expect("a file");
    }
    made
}

fn refuses(test: &str, settings: &[(&str, &str)], act: fn() -> String, wanted: &str) {
    emulated(&format!("refusals::{test}"), settings, || assert_eq!(act(), wanted));
}

#[test]
fn a_machine_without_a_driver() {
    let folder = without("libcuda");
    let settings = [("LD_LIBRARY_PATH", folder.path().to_str().expect("UTF-8"))];
    let wanted = "no NVIDIA driver on this machine: libcuda.so is not found; use `--on cpu`";
    refuses("a_machine_without_a_driver", &settings, no_gpu, wanted);
}

#[test]
fn a_driver_without_a_gpu() {
    let wanted = "there is no GPU number 0: the NVIDIA driver sees 0; GPUs are numbered from 0, and CUDA_VISIBLE_DEVICES may hide \
                  some";
    refuses("a_driver_without_a_gpu", &[("OVERBOOK_EMULATOR_SM", "0")], no_gpu, wanted);
}

#[test]
fn one_gpu_and_not_two() {
    let act = || Gpu::open(1).expect_err("refused").to_string();
    let wanted = "there is no GPU number 1: the NVIDIA driver sees 1; GPUs are numbered from 0, and CUDA_VISIBLE_DEVICES may hide \
                  some";
    refuses("one_gpu_and_not_two", &[], act, wanted);
}

#[test]
fn an_old_gpu() {
    let wanted = "Emulated GPU has compute capability 7.5; the kernels need 8.0 (A100) or newer";
    refuses("an_old_gpu", &[("OVERBOOK_EMULATOR_SM", "75")], no_gpu, wanted);
}

#[test]
fn an_old_driver() {
    let wanted = "the NVIDIA driver is for CUDA 12.0; 12.8 or newer is needed";
    refuses("an_old_driver", &[("OVERBOOK_EMULATOR_DRIVER", "12000")], no_gpu, wanted);
}

#[test]
fn a_compiler_that_is_newer_than_the_driver() {
    let wanted = "NVRTC 13.0 writes code for newer drivers: the NVIDIA driver is for CUDA 12.9; update the driver, or name the \
                  folder of an NVRTC 12.x in LD_LIBRARY_PATH";
    let settings = [("OVERBOOK_EMULATOR_DRIVER", "12090")];
    refuses("a_compiler_that_is_newer_than_the_driver", &settings, no_executor, wanted);
}

#[test]
fn no_compiler() {
    let folder = without("libnvrtc");
    let settings = [("LD_LIBRARY_PATH", folder.path().to_str().expect("UTF-8"))];
    let wanted = "NVRTC (libnvrtc.so) is not found: install the CUDA toolkit, or name the folder of its libraries in \
                  LD_LIBRARY_PATH (PyTorch brings them: site-packages/nvidia/*/lib)";
    refuses("no_compiler", &settings, no_executor, wanted);
}

#[test]
fn no_matrix_products() {
    let folder = without("libcublasLt");
    let settings = [("LD_LIBRARY_PATH", folder.path().to_str().expect("UTF-8"))];
    let wanted = "cuBLASLt (libcublasLt.so) is not found: install the CUDA toolkit, or name the folder of its libraries in \
                  LD_LIBRARY_PATH (PyTorch brings them: site-packages/nvidia/*/lib)";
    refuses("no_matrix_products", &settings, no_executor, wanted);
}

#[test]
fn no_room_for_the_weights() {
    let act = || {
        let small = Config::preset("small").expect("a preset");
        Model::load(0, small, &Dummy { seed: 1 }).expect_err("refused").to_string()
    };
    // The driver takes 16 of it.
    let settings = [("OVERBOOK_EMULATOR_MEMORY", "67108864")];
    refuses("no_room_for_the_weights", &settings, act, "the GPU has 48 MiB free, and 415 MiB are needed");
}

#[test]
fn no_room_for_keys_and_values() {
    let act = || {
        let capacity = overbook_engine::executor::Capacity { blocks: 200_000, ..mix::capacity(1024, 16) };
        CudaExecutor::new(model(), capacity).map(|_| ()).expect_err("refused").to_string()
    };
    emulated("refusals::no_room_for_keys_and_values", &[], || {
        let said = act();
        assert!(said.starts_with("the GPU has 49") && said.ends_with(" MiB are needed"), "{said}");
    });
}

/// Opens executors on a folder of what is kept, damages some of it, and opens them again.
fn damaged(test: &str, ending: &str, damage: fn(Vec<u8>) -> Vec<u8>) {
    let name = format!("refusals::{test}");
    let body = || {
        let mut executor = CudaExecutor::eager(model(), mix::capacity(1024, 16)).expect("an executor");
        mix::run(&mut executor);
    };
    if crate::emulator::is_child(&name) {
        return body();
    }
    let kept = tempfile::tempdir().expect("a folder");
    let settings = [("OVERBOOK_CACHE", kept.path().to_str().expect("UTF-8"))];
    emulated(&name, &settings, body);
    let files = files(kept.path(), ending);
    assert!(!files.is_empty());
    let before: Vec<_> = files.iter().map(|file| fs::read(file).expect("a file")).collect();
    for (file, content) in files.iter().zip(&before) {
        fs::write(file, damage(content.clone())).expect("writes");
    }
    emulated(&name, &settings, body);
    for (file, content) in files.iter().zip(before) {
        let now = fs::read(file).expect("a file");
        // What was timed may come out differently.
        assert!(now == content || ending == "tuned" && now.len() == content.len(), "{} stays damaged", file.display());
    }
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.extension().is_some_and(|end| end == ending)).collect()
}

#[test]
fn compiled_kernels_that_were_cut_off_are_compiled_again() {
    let test = "compiled_kernels_that_were_cut_off_are_compiled_again";
    damaged(test, "cubin", |content| content[..content.len() / 2].to_vec());
}

#[test]
fn compiled_kernels_that_were_damaged_are_compiled_again() {
    let test = "compiled_kernels_that_were_damaged_are_compiled_again";
    damaged(test, "cubin", |mut content| {
        *content.last_mut().expect("a byte") ^= 1;
        content
    });
}

#[test]
fn algorithms_that_were_damaged_are_chosen_again() {
    damaged("algorithms_that_were_damaged_are_chosen_again", "tuned", |content| {
        let at = String::from_utf8_lossy(&content).find("algorithm").expect("an algorithm") + 20;
        let mut content = content;
        content[at] = if content[at] == b'0' { b'1' } else { b'0' };
        content
    });
}

/// Tunes until so many shapes are done; how many had to be timed, and how many there are.
fn tuned_until(most: usize) -> (Result<(), BuildError>, usize, usize) {
    let (mut timed, mut all) = (0, 0);
    let built = CudaExecutor::build(model(), mix::capacity(1024, 16), false, &mut |at| {
        all = at.of;
        timed += usize::from(at.times && at.done < most);
        at.done < most
    });
    (built.map(drop), timed, all)
}

#[test]
fn tuning_that_is_interrupted_goes_on_where_it_was() {
    let name = "refusals::tuning_that_is_interrupted_goes_on_where_it_was";
    let body = || {
        let (stopped, timed, all) = tuned_until(5);
        assert!(matches!(stopped, Err(BuildError::Interrupted)) && timed == 5 && all > 5, "{stopped:?} {timed} {all}");
        let (built, timed, all) = tuned_until(usize::MAX);
        assert!(built.is_ok() && timed + 5 == all, "{built:?} {timed} of {all}");
        assert_eq!(tuned_until(usize::MAX).1, 0, "all are kept");
    };
    let kept = tempfile::tempdir().expect("a folder");
    emulated(name, &[("OVERBOOK_CACHE", kept.path().to_str().expect("UTF-8"))], body);
}

#[test]
fn a_folder_that_cannot_be_written_costs_time_alone() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let folder = file.path().join("kept");
    let settings = [("OVERBOOK_CACHE", folder.to_str().expect("UTF-8"))];
    emulated("refusals::a_folder_that_cannot_be_written_costs_time_alone", &settings, || {
        CudaExecutor::new(model(), mix::capacity(1024, 16)).expect("an executor");
    });
}
