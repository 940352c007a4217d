//! Tests of the fused operations: values against plain formulas, gradients against differences.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var};
use fearless_simd::Level;
use overbook_sim::counter::draw;

use super::attention::{Attention, rotation};
use super::capacity::Capacity;
use super::pointwise::{LogSigmoid, RmsNorm, SwiGlu, values};

/// Numbers in [-1, 1).
fn numbers(key: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|index| (draw(key, index) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn tensor(key: u64, shape: &[usize]) -> Tensor {
    Tensor::from_vec(numbers(key, shape.iter().product()), shape, &Device::Cpu).unwrap()
}

/// Compares the gradient of `Σ weight · f(inputs)` by every input with central differences.
fn check(what: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let weights = {
        let out = f(inputs).unwrap();
        Tensor::from_vec(numbers(99, out.elem_count()), out.shape().clone(), &Device::Cpu).unwrap()
    };
    let loss = |inputs: &[Tensor]| (f(inputs)?.mul(&weights))?.sum_all();
    let vars: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let gradients = loss(&tensors).unwrap().backward().unwrap();
    for (number, var) in vars.iter().enumerate() {
        let gradient = values(gradients.get(var).unwrap_or_else(|| panic!("{what}: no gradient by {number}"))).unwrap();
        let before = values(&inputs[number]).unwrap();
        for at in 0..before.len() {
            let moved = |by: f32| {
                let mut all = inputs.to_vec();
                let mut changed = before.clone();
                changed[at] += by;
                all[number] = Tensor::from_vec(changed, inputs[number].shape().clone(), &Device::Cpu).unwrap();
                f64::from(loss(&all).unwrap().to_scalar::<f32>().unwrap())
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            let got = f64::from(gradient[at]);
            assert!((got - slope).abs() < 2e-3 + 2e-2 * slope.abs(), "{what}: {got} by {number} at {at}, not {slope}");
        }
    }
}

fn attention(gated: bool, rows: Vec<usize>) -> Attention {
    let rotation = Arc::new(rotation(&[1.0, 0.1], 8));
    Attention { heads: 2, kv_heads: 1, dim: 4, rows: Arc::new(rows), gated, rotation, level: Level::new() }
}

#[test]
fn gradients_are_slopes() {
    check("norm", &[tensor(1, &[3, 8]), tensor(2, &[8])], |x| x[0].apply_op2(&x[1], RmsNorm { epsilon: 1e-5 }));
    check("swiglu", &[tensor(3, &[3, 8])], |x| x[0].apply_op1(SwiGlu));
    check("log-sigmoid", &[(tensor(4, &[12]) * 4.0).unwrap()], |x| x[0].apply_op1(LogSigmoid));
    let log_beta = (tensor(5, &[2, 5, 1]) - 1.0).unwrap();
    check("capacity", &[tensor(5, &[2, 6, 2]).affine(0.2, -0.3).unwrap()], |x| x[0].apply_op1(Capacity { slots: 1.5 }));
    for rows in [vec![0, 1, 2, 3, 4], vec![2, 4]] {
        let query = tensor(6, &[2, rows.len(), 8]);
        let inputs = [query, tensor(7, &[2, 5, 8]), log_beta.clone()];
        check("attention", &inputs, |x| x[0].apply_op3(&x[1], &x[2], attention(true, rows.clone())));
        check("plain attention", &inputs[..2], |x| x[0].apply_op3(&x[1], &log_beta, attention(false, rows.clone())));
    }
}

#[test]
fn attention_is_the_formula() {
    let (query, kv) = (tensor(6, &[1, 3, 8]), tensor(7, &[1, 3, 8]));
    let log_beta = [-0.5_f32, -0.1, -2.0];
    let beta = Tensor::from_vec(log_beta.to_vec(), (1, 3, 1), &Device::Cpu).unwrap();
    let got = values(&query.apply_op3(&kv, &beta, attention(true, vec![0, 1, 2])).unwrap()).unwrap();
    let (query, kv) = (values(&query).unwrap(), values(&kv).unwrap());
    let turned = |head: &[f32], at: usize| {
        let mut all = [0.0_f64; 4];
        for (pair, frequency) in [1.0, 0.1].into_iter().enumerate() {
            let (sin, cos) = (at as f64 * frequency).sin_cos();
            let (a, b) = (f64::from(head[pair]), f64::from(head[pair + 2]));
            (all[pair], all[pair + 2]) = (a * cos - b * sin, b * cos + a * sin);
        }
        all
    };
    // The second query head, at the last position.
    let q = turned(&query[2 * 8 + 4..3 * 8], 2);
    let logit = |i: usize| {
        let product: f64 = q.iter().zip(turned(&kv[i * 8..i * 8 + 4], i)).map(|(a, b)| a * b).sum();
        (product / 2.0 + (2 - i) as f64 * f64::from(log_beta[i])).exp()
    };
    let sum: f64 = (0..3).map(logit).sum();
    for d in 0..4 {
        let wanted: f64 = (0..3).map(|i| logit(i) / sum * f64::from(kv[i * 8 + 4 + d])).sum();
        assert!((f64::from(got[2 * 8 + 4 + d]) - wanted).abs() < 1e-6, "{wanted}");
    }
}

#[test]
fn capacity_is_the_formula() {
    let log_beta = [-0.1_f64, -0.5, -0.2, -0.05];
    let mut wanted = 0.0;
    for t in 0..4 {
        let kept: f64 = (0..=t).map(|i| ((t - i) as f64 * log_beta[i]).exp()).sum();
        wanted += (kept - 2.0).max(0.0) / (4.0 * (t + 1) as f64);
    }
    let tensor = Tensor::from_vec(log_beta.map(|x| x as f32).to_vec(), (1, 4, 1), &Device::Cpu).unwrap();
    let got = tensor.apply_op1(Capacity { slots: 2.0 }).unwrap().to_scalar::<f32>().unwrap();
    assert!(wanted > 0.05 && (f64::from(got) - wanted).abs() < 1e-6, "{got} {wanted}");
}
