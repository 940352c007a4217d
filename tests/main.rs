//! The program as its users meet it: arguments and files in; exit code, two streams and a directory out.

mod cli {
    mod attacked;
    mod browser;
    mod calibrate;
    mod commands;
    mod compare;
    mod cuda;
    mod disk;
    #[path = "../../engine/tests/it/emulator.rs"]
    #[allow(dead_code, reason = "tests of the engine use all of it")]
    mod emulator;
    mod engine;
    mod fetch;
    #[cfg(feature = "frames")]
    mod fitted;
    mod gates;
    mod golden;
    mod gpu_check;
    mod home;
    mod infer;
    mod init;
    mod init_logs;
    mod interrupt;
    mod kv;
    mod money;
    mod out_dir;
    mod own_log;
    mod pages;
    mod pipe;
    mod places;
    mod plan;
    mod readme;
    mod real_traces;
    mod refused;
    mod refused_traces;
    mod repro;
    mod results;
    mod serve;
    mod sweep;
    mod tools;
    mod trust;
    mod validate;
    #[cfg(not(feature = "frames"))]
    mod without_frames;
}
