//! Looks which groups of tests this build has what they need for. Only crates of tests depend on this package, so that
//! a change of these variables recompiles no library and no program.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (variable, cfg) in [
        ("OVERBOOK_DATA", "overbook_data"),
        ("OVERBOOK_BROWSER", "overbook_browser"),
        ("OVERBOOK_MOUNT", "overbook_mount"),
        ("OVERBOOK_NVRTC", "overbook_nvrtc"),
    ] {
        println!("cargo::rerun-if-env-changed={variable}");
        println!("cargo::rustc-check-cfg=cfg({cfg})");
        let Some(value) = std::env::var_os(variable).filter(|value| !value.is_empty()) else { continue };
        let Some(value) = value.to_str() else { panic!("{variable} is not UTF-8: {}", value.display()) };
        // Tests run in the folders of their packages, so a relative path would mean another place in each.
        let path = ["OVERBOOK_DATA", "OVERBOOK_NVRTC"].contains(&variable);
        assert!(!path || value.starts_with('/'), "{variable}={value}: give an absolute path");
        println!("cargo::rustc-cfg={cfg}");
        println!("cargo::rustc-env={variable}={value}");
    }
}
