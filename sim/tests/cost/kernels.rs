//! The closed forms against the measured kernels that they were fitted to: errors no larger than the study states.

use overbook_sim::cost::forms::{DecodeAttention, HeadShape, PrefillAttention, matmul_us};
use overbook_sim::model::{KvDtype, WeightDtype};

use crate::{gpu, shared};

const TABLES: [(&str, &str); 4] =
    [("a100-80", "a100_sxm"), ("h100", "h100_sxm"), ("h200", "h200_sxm"), ("b200", "b200_sxm")];

fn lines(kind: &str, table: &str) -> Option<Vec<Vec<String>>> {
    let file = shared(&format!("data/kernels/{kind}/{table}.csv.zst"))?;
    let bytes = zstd::decode_all(std::fs::File::open(file).unwrap()).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    Some(text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect())
}

/// Median and 90th percentile of the relative errors [%].
fn spread(errors: &mut [f64]) -> (f64, f64) {
    errors.sort_by(f64::total_cmp);
    let at = |q: f64| errors[((errors.len() - 1) as f64 * q) as usize] * 100.0;
    (at(0.5), at(0.9))
}

fn check(label: &str, mut errors: Vec<f64>, median: f64, p90: f64) {
    let count = errors.len();
    let (got_median, got_p90) = spread(&mut errors);
    eprintln!("{label}: {count} rows, error median {got_median:.1} %, p90 {got_p90:.1} % (bound {median}/{p90})");
    assert!(count > 100, "{label}: only {count} rows");
    assert!(got_median <= median && got_p90 <= p90, "{label}");
}

/// Bounds: README of the study, §2.1, columns "G all", plus two points. Rows flagged as humps or spikes (dispatch
/// noise, most of them fp8 on B200) are left out.
#[test]
fn matmuls_are_predicted_as_well_as_the_study_says() {
    let bounds = [(7.0, 18.0, 0.0, 0.0), (6.0, 15.0, 8.0, 22.0), (7.0, 14.0, 9.0, 26.0), (7.0, 16.0, 10.0, 26.0)];
    for ((name, table), (bf16, bf16_p90, fp8, fp8_p90)) in TABLES.into_iter().zip(bounds) {
        let Some(rows) = lines("gemm", table) else { return };
        let spec = gpu(name);
        for (dtype, median, p90) in [(WeightDtype::Bf16, bf16, bf16_p90), (WeightDtype::Fp8, fp8, fp8_p90)] {
            let mut errors = Vec::new();
            for row in rows.iter().filter(|row| row[0] == dtype.to_string()) {
                let [n, k, m] = [1, 2, 3].map(|i| row[i].parse::<u64>().unwrap());
                let cold = 6 * dtype.bytes(n * k) > 2 * spec.l2.0 && n >= 512 && k >= 512 && m <= 16_384;
                let tile = dtype == WeightDtype::Bf16 || m % 8 == 0 || (m < 16 && (name != "b200" || m > 2));
                if cold && tile && row[5].is_empty() {
                    let us: f64 = row[4].parse().unwrap();
                    errors.push((matmul_us(&spec, dtype, m, n, k).unwrap() / us - 1.0).abs());
                }
            }
            if spec.supports_weights(dtype) {
                check(&format!("{name} matmul {dtype}"), errors, median, p90);
            }
        }
    }
}

/// Bounds: §2.4, the larger of columns "C cold", plus two points. Left out on A100: ungrouped heads on too few
/// sequences to fill the GPU, which its older kernel does not split (up to eight times slower than the form).
#[test]
fn decode_attention_is_predicted_as_well_as_the_study_says() {
    let bounds = [(9.0, 24.0), (5.0, 14.0), (6.0, 14.0), (7.0, 34.0)];
    for ((name, table), (median, p90)) in TABLES.into_iter().zip(bounds) {
        let Some(rows) = lines("attn_decode", table) else { return };
        let spec = gpu(name);
        let mut errors = Vec::new();
        for row in rows {
            let [head_dim, heads, kv_heads] = [0, 1, 2].map(|i| row[i].parse::<u32>().unwrap());
            let [batch, context] = [4, 5].map(|i| row[i].parse::<u64>().unwrap());
            let kv = if row[3] == "fp8" { KvDtype::Fp8 } else { KvDtype::Bf16 };
            let bytes = 2 * batch * context * u64::from(kv_heads * head_dim) * kv.bytes();
            let unsplit = name == "a100-80" && heads == kv_heads && batch * u64::from(kv_heads) < u64::from(spec.sms);
            if bytes > 2 * spec.l2.0 && !unsplit {
                let form = DecodeAttention::new(&spec, kv, HeadShape { heads, kv_heads, head_dim }).unwrap();
                errors.push((form.us(batch, batch * context) / row[6].parse::<f64>().unwrap() - 1.0).abs());
            }
        }
        check(&format!("{name} decode attention"), errors, median, p90);
    }
}

/// Bounds: §2.5, column "C", plus two points.
#[test]
fn prefill_attention_is_predicted_as_well_as_the_study_says() {
    let bounds = [(8.0, 30.0), (9.0, 27.0), (9.0, 28.0), (15.0, 43.0)];
    for ((name, table), (median, p90)) in TABLES.into_iter().zip(bounds) {
        let Some(rows) = lines("attn_prefill", table) else { return };
        let spec = gpu(name);
        let mut errors = Vec::new();
        for row in rows {
            let [head_dim, heads, kv_heads] = [0, 1, 2].map(|i| row[i].parse::<u32>().unwrap());
            let [batch, tokens] = [4, 5].map(|i| row[i].parse::<u64>().unwrap());
            let kv = if row[3] == "fp8" { KvDtype::Fp8 } else { KvDtype::Bf16 };
            if tokens >= 128 && heads >= 8 {
                let form = PrefillAttention::new(&spec, kv, HeadShape { heads, kv_heads, head_dim }).unwrap();
                errors.push((form.us(batch, tokens, 0) / row[6].parse::<f64>().unwrap() - 1.0).abs());
            }
        }
        check(&format!("{name} prefill attention"), errors, median, p90);
    }
}
