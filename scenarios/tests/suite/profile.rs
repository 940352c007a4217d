//! Kernel tables of other tools to a profile, and a scenario that runs on it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use overbook_scenarios::Source;
use overbook_scenarios::import::{ImportedProfile, Tool, import_profile};
use overbook_sim::cost::forms::{DecodeAttention, HeadShape, PrefillAttention, matmul_us, small_kernel_us};
use overbook_sim::cost::{CostModel, StepShape};
use overbook_sim::hardware::gpu::{CollectiveFit, GpuSpec, MatmulFit};
use overbook_sim::hardware::model::{KvDtype, WeightDtype};
use overbook_sim::units::{Bandwidth, Bytes};
use tempfile::TempDir;

use super::told;

const START: &str = "framework,version,device,op_name,kernel_source";
const ROW: &str = "VLLM,0.14.0,NVIDIA H100 80GB HBM3,op,kernel";

/// An H100 with constants of its own.
fn truth() -> GpuSpec {
    let mut gpu = overbook_scenarios::Catalog::embedded().gpu("h100").unwrap();
    gpu.matmul.bf16 =
        MatmulFit { compute: 0.61, memory: 0.72, floor_us: 6.5, k0: 210.0, sharpness: 2.4, quantise: None };
    for fit in &mut gpu.decode_attention.fits {
        (fit.compute, fit.memory, fit.floor_us, fit.sequence_ns) = (0.5, 0.66, 14.0, 31.0);
    }
    for fit in &mut gpu.prefill_attention.fits {
        (fit.compute, fit.memory, fit.floor_us, fit.offset_tokens) = (0.48, 0.31, 17.0, 120.0);
    }
    gpu.all_reduce.fits = vec![CollectiveFit {
        gpus: 2,
        floor_us: 9.0,
        below: Bandwidth(120e9),
        knee: Bytes(2_000_000),
        above: Bandwidth(310e9),
    }];
    gpu
}

/// Shapes of Qwen3-8B, and as many others.
const MATRICES: [(u64, u64); 8] = [
    (6144, 4096),
    (4096, 4096),
    (24_576, 4096),
    (4096, 12_288),
    (8192, 8192),
    (2048, 16_384),
    (16_384, 2048),
    (151_936, 4096),
];

/// Tables in AIConfigurator's layout, with the times of that GPU.
fn tables(folder: &Path, gpu: &GpuSpec) {
    fs::create_dir_all(folder).unwrap();
    let ms = |us: f64| us / 1e3;
    let mut text = format!("{START},gemm_dtype,m,n,k,latency\n");
    for (n, k) in MATRICES {
        for m in [1u64, 4, 16, 64, 128, 256, 512, 1024, 4096, 8192] {
            let us = matmul_us(gpu, WeightDtype::Bf16, m, n, k).unwrap();
            writeln!(text, "{ROW},bfloat16,{m},{n},{k},{:.9}", ms(us)).unwrap();
        }
        writeln!(text, "{ROW},nvfp4,1,{n},{k},0.001").unwrap();
    }
    fs::write(folder.join("gemm_perf.txt"), text).unwrap();
    let header = format!(
        "{START},batch_size,isl,num_heads,num_key_value_heads,head_dim,beam_width,attn_dtype,kv_cache_dtype,step,latency\n"
    );
    let (mut decode, mut prefill) = (header.clone(), header);
    for (heads, kv_heads) in [(32, 8), (16, 4), (8, 8), (64, 8), (12, 4), (32, 32), (48, 8)] {
        let shape = HeadShape { heads, kv_heads, head_dim: 128 };
        for batch in [1u64, 8, 64, 256] {
            for context in [16u64, 1000, 8192, 40_960] {
                let us = DecodeAttention::new(gpu, KvDtype::Bf16, shape).unwrap().us(batch, batch * context);
                let step = context - 1;
                writeln!(decode, "{ROW},{batch},1,{heads},{kv_heads},128,1,bfloat16,bfloat16,{step},{:.9}", ms(us))
                    .unwrap();
            }
        }
        for (batch, tokens) in [(1u64, 64u64), (1, 1024), (4, 4096), (1, 8192), (8, 512)] {
            let us = PrefillAttention::new(gpu, KvDtype::Bf16, shape).unwrap().us(batch, tokens, 0);
            writeln!(prefill, "{ROW},{batch},{tokens},{heads},{kv_heads},128,1,bfloat16,bfloat16,0,{:.9}", ms(us))
                .unwrap();
        }
        writeln!(prefill, "{ROW},1,64,{heads},{kv_heads},128,1,fp8,fp8,0,0.001").unwrap();
    }
    fs::write(folder.join("generation_attention_perf.txt"), decode).unwrap();
    fs::write(folder.join("context_attention_perf.csv"), prefill).unwrap();
    let mut text = format!("{START},allreduce_dtype,num_gpus,message_size,latency\n");
    for power in 7..29 {
        let elements = 1u64 << power;
        let us = gpu.all_reduce_fit(2).unwrap().us(2.0 * elements as f64);
        // The eager kernel is slower: the faster one counts.
        writeln!(text, "{ROW},bfloat16,2,{elements},{:.9}", ms(us + 40.0)).unwrap();
        writeln!(text, "{ROW},bfloat16,2,{elements},{:.9}", ms(us)).unwrap();
    }
    fs::write(folder.join("custom_allreduce_perf.txt"), text).unwrap();
}

fn import(folder: &Path) -> ImportedProfile {
    import_profile(Tool::AiConfigurator, folder, None, None, "2026-01-02").unwrap()
}

fn refused(tool: Tool, folder: &Path) -> String {
    import_profile(tool, folder, None, None, "2026-01-02").unwrap_err().to_string()
}

/// The search finds the constants that made the tables, and says how far held-out rows are from them.
#[test]
fn constants_come_back_from_their_tables() {
    let home = TempDir::new().unwrap();
    let truth = truth();
    tables(home.path(), &truth);
    let ImportedProfile { profile, notes } = import(home.path());
    let near = |got: f64, wanted: f64| assert!((got / wanted - 1.0).abs() < 0.03, "{got} {wanted}");
    let fit = profile.matmul.as_ref().unwrap().bf16;
    for (got, wanted) in [(fit.compute, 0.61), (fit.memory, 0.72), (fit.floor_us, 6.5), (fit.sharpness, 2.4)] {
        near(got, wanted);
    }
    let fit = &profile.decode_attention.as_ref().unwrap().fits[0];
    near(fit.memory, 0.66);
    near(fit.floor_us, 14.0);
    let fit = &profile.prefill_attention.as_ref().unwrap().fits[0];
    near(fit.compute, 0.48);
    near(fit.floor_us, 17.0);
    let fit = profile.all_reduce.as_ref().unwrap().fits[0];
    near(fit.floor_us, 9.0);
    near(fit.above.0, 310e9);
    let operations: Vec<&str> = profile.residuals.iter().map(|residual| residual.operation.as_str()).collect();
    assert_eq!(
        operations,
        [
            "matmul bf16",
            "decode attention bf16, head_dim 128",
            "prefill attention bf16, head_dim 128",
            "all-reduce over 2"
        ]
    );
    for residual in &profile.residuals {
        assert!(residual.fitted >= 12 && residual.held_out >= 7 && residual.p90_percent < 2.0, "{residual:?}");
    }
    assert_eq!(profile.absent(), ["all-to-all", "small kernels", "experts"]);
    assert_eq!((profile.gpu.as_str(), profile.source.imported.as_str()), ("h100", "2026-01-02"));
    assert_eq!(profile.source.engine, "VLLM 0.14.0");
    assert_eq!(profile.source.tables.len(), 4);
    let hull = &profile.hull[0];
    assert_eq!((hull.operation.as_str(), hull.axes["m"], hull.axes["n"]), ("matmul bf16", [1, 8192], [2048, 151_936]));
    assert_eq!(
        notes,
        ["gemm_perf: 8 rows left out: nvfp4 arithmetic", "context_attention_perf: 7 rows left out: fp8 attention"]
    );
    // The same tables, the same bytes.
    assert_eq!(import(home.path()).to_yaml(), import(home.path()).to_yaml());
}

/// A scenario on the profile charges what the tables say: the sum of a step's rows, within the fit's own error.
#[test]
fn a_scenario_runs_on_what_the_tables_say() {
    let home = TempDir::new().unwrap();
    let truth = truth();
    tables(&home.path().join("tables"), &truth);
    fs::write(home.path().join("p.yaml"), import(&home.path().join("tables")).to_yaml()).unwrap();
    let text = "version: 1\nname: x\n\
                workload: { generate: { arrivals: { poisson: { rate: 1/s } }, lengths: burstgpt, requests: 10 }, temperature: 0 }\n\
                model: qwen3-8b\ngpu: h100\nengine: { cost: { profile: { path: p.yaml } } }\n\
                scheduler: { vllm: { max_num_seqs: 256 } }\n";
    let file = home.path().join("s.yaml");
    let load = |text: &str| {
        fs::write(&file, text).unwrap();
        Source::load(&file).unwrap().resolve()
    };
    let study = load(text).unwrap();
    let point = &study.points()[0];
    let mut cost = point.cost().unwrap();
    for (seqs, context) in [(1u32, 1000u64), (64, 1000), (256, 8192)] {
        let step =
            StepShape { decode_seqs: seqs, decode_context: u64::from(seqs) * context, prefill: &[], prefill_ends: 0 };
        let got = CostModel::step(&mut *cost, &step).device.as_ns_f64() / 1e3;
        let m = u64::from(seqs);
        let matrix = |(n, k)| matmul_us(&truth, WeightDtype::Bf16, m, n, k).unwrap();
        let heads = HeadShape { heads: 32, kv_heads: 8, head_dim: 128 };
        let attention = DecodeAttention::new(&truth, KvDtype::Bf16, heads).unwrap().us(m, m * context);
        let layer: f64 = MATRICES[..4].iter().map(|shape| matrix(*shape)).sum::<f64>() + attention;
        // Small kernels stay the catalog's: two norms, rotary and two head norms, activation.
        let small = |numbers: u64| small_kernel_us(&truth, (m * numbers) as f64);
        let around = 2.0 * small(8 * 4096) + 2.0 * small(4 * 40 * 128) + small(2 * 3 * 12_288);
        let ends = small(4 * 4096) + small(6 * 4096) + small(6 * 151_936) + small(4 * 151_936);
        let expected = 36.0 * (layer + around) + matrix((151_936, 4096)) + ends;
        assert!((got / expected - 1.0).abs() < 0.01, "{seqs}: {got} {expected}");
    }
    // The plan depends on the constants, not on the path.
    let catalog = load(&text.replace("engine: { cost: { profile: { path: p.yaml } } }\n", "")).unwrap();
    assert_ne!(catalog.plan_hash(), study.plan_hash());
    // 40,960 tokens of context, 256 sequences, 8192 tokens a step: the tables go as far; 131,072 they do not.
    assert_eq!(point.outside_profile(), [] as [String; 0]);
    let longer = load(&text.replace("qwen3-8b", "llama-3.1-8b")).unwrap();
    assert_eq!(
        longer.points()[0].outside_profile(),
        [
            "matmul bf16: n 28672 (measured 2048 to 151936)",
            "matmul bf16: k 14336 (measured 2048 to 16384)",
            "decode attention bf16, head_dim 128: context 131072 (measured 16 to 40960)"
        ][2..]
    );
    // What the tables lack is refused where the catalog lacks it too, and is the catalog's otherwise.
    let other = load(&text.replace("gpu: h100", "gpu: h200")).unwrap_err();
    let told = told(&other);
    assert!(
        told[0].starts_with("6:36: the profile `") && told[0].ends_with("is of h100, the scenario's GPU is h200"),
        "{told:?}"
    );
    let groups = load(&format!("{text}fleet: {{ tensor_parallel: 4 }}\n")).unwrap_err();
    assert!(groups.list()[0].message.contains("tensor_parallel 4; it has 2"), "{groups}");
}

#[test]
fn folders_that_are_no_tables_are_refused() {
    let home = TempDir::new().unwrap();
    let at = |name: &str| home.path().join(name);
    assert!(refused(Tool::AiConfigurator, &at("nowhere")).contains("nowhere: No such file"));
    fs::write(at("readme.txt"), "hello").unwrap();
    let message = refused(Tool::AiConfigurator, home.path());
    assert!(message.contains("no table of AIConfigurator in it; looked for gemm_perf.txt"), "{message}");
    let message = refused(Tool::Vidur, home.path());
    assert!(message.contains("no table of Vidur in it") && message.contains("data/profiling"), "{message}");
    let told = |text: &str| {
        fs::write(at("gemm_perf.txt"), text).unwrap();
        refused(Tool::AiConfigurator, home.path())
    };
    assert!(told("version https://git-lfs.github.com/spec/v1\noid sha256:0\n").contains("`git lfs pull`"));
    let message = told("m,n,k,latency\n1,2,3,4\n");
    assert!(message.contains("there is no column `gemm_dtype`; the header has m, n, k, latency"), "{message}");
    let header = format!("{START},gemm_dtype,m,n,k,latency\n");
    let message = told(&format!("{header}{ROW},bfloat16,1,2,3,0.1\n{ROW},bfloat16,1.5,2,3,0.1\n"));
    assert!(message.ends_with("gemm_perf.txt, line 3: `m` is `1.5`; expected a whole number"), "{message}");
    let message = told(&format!("{header}{ROW},bfloat16,1,2,3,-1\n"));
    assert!(message.ends_with("line 2: `latency` is `-1`; expected a time in ms above 0"), "{message}");
    let message = told(&format!("{header}{ROW},bfloat16,1\n"));
    assert!(message.contains("gemm_perf.txt") && message.contains("found record with 7 fields"), "{message}");
    let message = told(&format!("{header}{ROW},bfloat16,1,2,3,0.1\n"));
    assert!(
        message.starts_with("no operation has 12 rows") && message.contains("matmul 1, decode attention 0"),
        "{message}"
    );
    let message = told(&format!("{header}{ROW},bfloat16,1,2,3,0.1\n").replace("H100 80GB HBM3", "H100 PCIe"));
    assert!(message.contains("NVIDIA H100 PCIe, which the catalog does not know; name the GPU with --gpu: a100-40"));
    let two = format!(
        "{header}{ROW},bfloat16,1,2,3,0.1\n{}",
        format!("{ROW},fp8,1,2,3,0.1\n").replace("H100 80GB HBM3", "H200")
    );
    assert_eq!(told(&two), "the tables are of NVIDIA H100 80GB HBM3 and of NVIDIA H200; name the folder of one system");
}

#[test]
fn one_of_several_tables_is_chosen_by_its_path() {
    let home = TempDir::new().unwrap();
    let truth = truth();
    for version in ["0.14.0", "0.19.0"] {
        tables(&home.path().join("vllm").join(version), &truth);
    }
    let message = refused(Tool::AiConfigurator, home.path());
    assert!(message.contains("several gemm_perf tables: vllm/0.14.0/gemm_perf.txt, vllm/0.19.0/gemm_perf.txt"));
    assert!(message.ends_with("choose with --select, e.g. --select vllm/0.14.0"), "{message}");
    let chosen = import_profile(Tool::AiConfigurator, home.path(), None, Some("0.19.0"), "2026-01-02").unwrap();
    assert!(chosen.profile.source.tables.iter().all(|table| table.starts_with("vllm/0.19.0/")));
    // A name of the user's outranks the tables'; an unknown one is reported.
    let named = import_profile(Tool::AiConfigurator, home.path(), Some("h200"), Some("0.19.0"), "2026-01-02").unwrap();
    assert_eq!(named.profile.gpu, "h200");
    let wrong = import_profile(Tool::AiConfigurator, home.path(), Some("h20"), Some("0.19.0"), "2026-01-02");
    assert_eq!(wrong.unwrap_err().to_string(), "no GPU is called `h20`; did you mean `h200`?");
}

/// The layout of newer versions: one folder per operation, Parquet.
#[test]
fn parquet_tables_read_like_text() {
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    let home = TempDir::new().unwrap();
    let text = home.path().join("text");
    tables(&text, &truth());
    let folder = home.path().join("h100_sxm/gemm/vllm/0.14.0");
    fs::create_dir_all(&folder).unwrap();
    let csv = fs::read_to_string(text.join("gemm_perf.txt")).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let schema = "message schema { REQUIRED BYTE_ARRAY framework (UTF8); REQUIRED BYTE_ARRAY version (UTF8); \
                  REQUIRED BYTE_ARRAY device (UTF8); REQUIRED BYTE_ARRAY gemm_dtype (UTF8); REQUIRED INT64 m; \
                  REQUIRED INT64 n; REQUIRED INT64 k; REQUIRED DOUBLE latency; }";
    let schema = std::sync::Arc::new(parse_message_type(schema).unwrap());
    let snappy = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let file = fs::File::create(folder.join("gemm_perf.parquet")).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, std::sync::Arc::new(snappy)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in [0, 1, 2, 5, 6, 7, 8, 9] {
        let mut out = group.next_column().unwrap().unwrap();
        match column {
            6..=8 => {
                let values: Vec<i64> = rows.iter().map(|row| row[column].parse().unwrap()).collect();
                out.typed::<Int64Type>().write_batch(&values, None, None).unwrap();
            }
            9 => {
                let values: Vec<f64> = rows.iter().map(|row| row[column].parse().unwrap()).collect();
                out.typed::<DoubleType>().write_batch(&values, None, None).unwrap();
            }
            _ => {
                let values: Vec<ByteArray> = rows.iter().map(|row| ByteArray::from(row[column])).collect();
                out.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            }
        }
        out.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    let of = |folder: &Path| import(folder).profile.matmul.unwrap().bf16;
    assert_eq!(of(&home.path().join("h100_sxm")), of(&text));
}

/// Vidur's layout, times made by the same forms.
#[test]
#[expect(clippy::too_many_lines, reason = "tables are written, read and fitted in one go")]
fn profiles_of_vidur_become_a_profile() {
    let home = TempDir::new().unwrap();
    let mut truth = truth();
    truth.peak_bf16 = overbook_scenarios::Catalog::embedded().gpu("a100-80").unwrap().peak_bf16;
    truth.bandwidth = overbook_scenarios::Catalog::embedded().gpu("a100-80").unwrap().bandwidth;
    let model = home.path().join("compute/a100/meta-llama/Llama-2-7b-hf");
    fs::create_dir_all(&model).unwrap();
    let operators = ["attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj", "add", "mlp_act"];
    let columns: Vec<String> = operators.iter().map(|name| format!("time_stats.{name}.median")).collect();
    let mut text = format!(
        "{},n_head,n_kv_head,n_embd,n_expanded_embd,vocab_size,use_gated_mlp,num_tokens,num_tensor_parallel_workers\n",
        columns.join(",")
    );
    for tensor in [1u64, 2, 4] {
        for m in [1u64, 8, 64, 256, 512, 1024, 2048, 4096] {
            let matrices =
                [(12_288 / tensor, 4096), (4096, 4096 / tensor), (22_016 / tensor, 4096), (4096, 11_008 / tensor)];
            for (n, k) in matrices {
                write!(text, "{:.9},", matmul_us(&truth, WeightDtype::Bf16, m, n, k).unwrap() / 1e3).unwrap();
            }
            for numbers in [6 * 4096, 6 * 11_008 / tensor] {
                write!(text, "{:.9},", small_kernel_us(&truth, (m * numbers) as f64) / 1e3).unwrap();
            }
            writeln!(text, "32,32,4096,11008,32768,True,{m},{tensor}").unwrap();
        }
    }
    fs::write(model.join("mlp.csv"), text).unwrap();
    fs::write(model.join("attention.csv"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\n").unwrap();
    let network = home.path().join("network/a100_dgx");
    fs::create_dir_all(&network).unwrap();
    let mut text = ",time_stats.all_reduce.median,rank,num_workers,size,collective,devices_per_node\n".to_owned();
    for power in 11..31 {
        let us = truth.all_reduce_fit(2).unwrap().us(f64::from(1 << power));
        writeln!(text, "0,{:.9},0,2,{},all_reduce,2\n1,9.0,0,2,{},all_reduce,1", us / 1e3, 1 << power, 1 << power)
            .unwrap();
    }
    fs::write(network.join("all_reduce.csv"), text).unwrap();
    let import = || import_profile(Tool::Vidur, home.path(), None, None, "2026-01-02");
    let ImportedProfile { profile, notes } = import().unwrap();
    assert_eq!((profile.gpu.as_str(), profile.source.licence.as_str()), ("a100-80", "MIT, Microsoft Corporation"));
    let fit = profile.matmul.as_ref().unwrap().bf16;
    assert!((fit.memory / 0.72 - 1.0).abs() < 0.03 && (fit.floor_us / 6.5 - 1.0).abs() < 0.03, "{fit:?}");
    let small = profile.small_kernels.as_ref().unwrap();
    assert!((small.memory / 0.7 - 1.0).abs() < 0.03 && (small.floor_us / 2.0 - 1.0).abs() < 0.03, "{small:?}");
    assert!((profile.all_reduce.as_ref().unwrap().fits[0].floor_us / 9.0 - 1.0).abs() < 0.05);
    assert_eq!(profile.absent(), ["decode attention", "prefill attention", "all-to-all", "experts"]);
    assert!(
        notes[0].contains("attention.csv is a Git LFS pointer") && notes[0].ends_with("it was left out"),
        "{notes:?}"
    );
    // With attention.
    let mut text = "n_embd,n_q_head,n_kv_head,block_size,num_tensor_parallel_workers,batch_size,prefill_chunk_size,\
                    kv_cache_size,is_prefill,time_stats.attn_prefill.median,time_stats.attn_decode.median\n"
        .to_owned();
    for tensor in [1u32, 2, 4] {
        let heads = HeadShape { heads: 32 / tensor, kv_heads: 32 / tensor, head_dim: 128 };
        for batch in [1u64, 8, 64] {
            for context in [64u64, 1024, 4096] {
                let us = DecodeAttention::new(&truth, KvDtype::Bf16, heads).unwrap().us(batch, batch * context);
                writeln!(text, "4096,32,32,16,{tensor},{batch},0,{context},False,,{:.9}", us / 1e3).unwrap();
            }
        }
        for (tokens, past) in [(64u64, 0u64), (512, 0), (2048, 0), (512, 512), (512, 2048), (4096, 0), (1024, 0)] {
            let us = PrefillAttention::new(&truth, KvDtype::Bf16, heads).unwrap().us(1, tokens, past);
            writeln!(text, "4096,32,32,16,{tensor},1,{tokens},{past},True,{:.9},", us / 1e3).unwrap();
        }
    }
    fs::write(model.join("attention.csv"), text).unwrap();
    let profile = import().unwrap().profile;
    let fit = &profile.decode_attention.as_ref().unwrap().fits[0];
    assert!((fit.memory / 0.66 - 1.0).abs() < 0.05, "{fit:?}");
    assert!((profile.prefill_attention.as_ref().unwrap().fits[0].compute / 0.48 - 1.0).abs() < 0.05);
    // Another GPU beside it.
    let other = home.path().join("compute/h100/meta-llama/Llama-2-7b-hf");
    fs::create_dir_all(&other).unwrap();
    fs::copy(model.join("mlp.csv"), other.join("mlp.csv")).unwrap();
    let message = import().unwrap_err().to_string();
    assert!(
        message.contains("compute/a100, compute/h100; choose with --select, e.g. --select compute/a100/"),
        "{message}"
    );
}
