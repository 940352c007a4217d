//! The oracle: the forward pass in f64 over explicit sets of kept positions, with nothing of the engine's but the weights.

use std::collections::BTreeMap;

use overbook_engine::config::{Config, Family};
use overbook_engine::weights::Source;

/// A token that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) key: Vec<f64>,
    pub(crate) value: Vec<f64>,
    /// Attention that it got so far.
    pub(crate) heard: f64,
    /// What the network gives it, before its end.
    pub(crate) gate: f64,
}

/// The tokens of a KV head, by position.
pub(crate) type Set = BTreeMap<u32, Token>;

/// A layer of one sequence.
pub(crate) struct Layer {
    pub(crate) sets: Vec<Set>,
    /// Queries of all positions, `[position][head]`, after rotation and before.
    pub(crate) queries: Vec<Vec<Vec<f64>>>,
    pub(crate) raw: Vec<Vec<Vec<f64>>>,
}

/// One sequence of a model with equally many heads in all layers.
pub(crate) struct Oracle<'a> {
    config: Config,
    source: &'a dyn Source,
    /// `gate` or `zap`, with the width of its hidden layer.
    gate: Option<(&'static str, usize)>,
    tensors: BTreeMap<String, Vec<f64>>,
    pub(crate) layers: Vec<Layer>,
    /// Attention of all queries, `[layer][head][query]` by position: the mean over the group.
    pub(crate) heard: Vec<Vec<Vec<BTreeMap<u32, f64>>>>,
    pub(crate) computed: u32,
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(config: &Config, source: &'a dyn Source, gate: Option<(&'static str, usize)>) -> Self {
        let layer = || Layer { sets: vec![Set::new(); config.kv_heads], queries: Vec::new(), raw: Vec::new() };
        Oracle {
            config: config.clone(),
            source,
            gate,
            tensors: BTreeMap::new(),
            layers: (0..config.layers).map(|_| layer()).collect(),
            heard: vec![vec![Vec::new(); config.kv_heads]; config.layers],
            computed: 0,
        }
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Vec<f64> {
        let source = self.source;
        let read = || source.tensor(name, shape).expect("a tensor").into_iter().map(f64::from).collect();
        self.tensors.entry(name.to_owned()).or_insert_with(read).clone()
    }

    /// Computes tokens; gives the logits of the last.
    pub(crate) fn step(&mut self, tokens: &[u32]) -> Vec<f64> {
        let (hidden, vocab) = (self.config.hidden, self.config.vocab);
        let embedding = self.tensor("model.embed_tokens.weight", &[vocab, hidden]);
        let mut rows: Vec<Vec<f64>> =
            tokens.iter().map(|token| embedding[*token as usize * hidden..][..hidden].to_vec()).collect();
        for layer in 0..self.config.layers {
            self.attend(layer, &mut rows);
            self.transform(layer, &mut rows);
        }
        self.computed += tokens.len() as u32;
        let norm = self.tensor("model.norm.weight", &[hidden]);
        let head = self.tensor("lm_head.weight", &[vocab, hidden]);
        times(&head, &rms(rows.last().expect("a row"), &norm))
    }

    fn attend(&mut self, layer: usize, rows: &mut [Vec<f64>]) {
        let Config { hidden, heads, kv_heads, head_dim, .. } = self.config;
        let name = |tensor: &str| format!("model.layers.{layer}.{tensor}.weight");
        let norm = self.tensor(&name("input_layernorm"), &[hidden]);
        let wq = self.tensor(&name("self_attn.q_proj"), &[heads * head_dim, hidden]);
        let wk = self.tensor(&name("self_attn.k_proj"), &[kv_heads * head_dim, hidden]);
        let wv = self.tensor(&name("self_attn.v_proj"), &[kv_heads * head_dim, hidden]);
        let wo = self.tensor(&name("self_attn.o_proj"), &[hidden, heads * head_dim]);
        let first = self.computed;
        for (row, position) in rows.iter().zip(first..) {
            let x = rms(row, &norm);
            let gates = self.gates(layer, &x);
            let split = |row: Vec<f64>| row.chunks(head_dim).map(<[f64]>::to_vec).collect::<Vec<_>>();
            let queries = self.normed(layer, "q_norm", split(times(&wq, &x)));
            let keys = self.normed(layer, "k_norm", split(times(&wk, &x)));
            let values = split(times(&wv, &x));
            let at = &mut self.layers[layer];
            at.queries.push(queries.iter().map(|head| rotated(&self.config, head, f64::from(position))).collect());
            at.raw.push(queries);
            for (head, (set, value)) in at.sets.iter_mut().zip(values).enumerate() {
                let key = rotated(&self.config, &keys[head], f64::from(position));
                set.insert(position, Token { key, value, heard: 0.0, gate: gates[head] });
            }
        }
        for (row, position) in rows.iter_mut().zip(first..) {
            let mut attended = Vec::new();
            for head in 0..heads {
                let group = heads / kv_heads;
                let query = self.layers[layer].queries[position as usize][head].clone();
                let set = &mut self.layers[layer].sets[head / group];
                let weights = weights(set, &query, position);
                let mut sum = vec![0.0; head_dim];
                for (at, weight) in &weights {
                    let token = set.get_mut(at).expect("kept");
                    token.heard += weight / group as f64;
                    sum.iter_mut().zip(&token.value).for_each(|(sum, value)| *sum += weight * value);
                }
                let heard = &mut self.heard[layer][head / group];
                heard.resize(position as usize + 1, BTreeMap::new());
                for (at, weight) in weights {
                    *heard[position as usize].entry(at).or_insert(0.0) += weight / group as f64;
                }
                attended.extend(sum);
            }
            row.iter_mut().zip(times(&wo, &attended)).for_each(|(x, y)| *x += y);
        }
    }

    /// Heads after their norm, where the family has one.
    fn normed(&mut self, layer: usize, norm: &str, heads: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        if self.config.family != Family::Qwen3 {
            return heads;
        }
        let weight = self.tensor(&format!("model.layers.{layer}.self_attn.{norm}.weight"), &[self.config.head_dim]);
        heads.iter().map(|head| rms(head, &weight)).collect()
    }

    fn gates(&mut self, layer: usize, x: &[f64]) -> Vec<f64> {
        let Some((kind, width)) = self.gate else { return vec![0.0; self.config.kv_heads] };
        let name = |tensor: &str| format!("model.layers.{layer}.{kind}.{tensor}");
        let w1 = self.tensor(&name("w1"), &[width, self.config.hidden]);
        let b1 = self.tensor(&name("b1"), &[width]);
        let w2 = self.tensor(&name("w2"), &[self.config.kv_heads, width]);
        let b2 = self.tensor(&name("b2"), &[self.config.kv_heads]);
        let inner: Vec<f64> = times(&w1, x).iter().zip(&b1).map(|(u, b)| silu(u + b)).collect();
        times(&w2, &inner).iter().zip(&b2).map(|(z, b)| z + b).collect()
    }

    fn transform(&mut self, layer: usize, rows: &mut [Vec<f64>]) {
        let Config { hidden, intermediate, .. } = self.config;
        let name = |tensor: &str| format!("model.layers.{layer}.{tensor}.weight");
        let norm = self.tensor(&name("post_attention_layernorm"), &[hidden]);
        let gate = self.tensor(&name("mlp.gate_proj"), &[intermediate, hidden]);
        let up = self.tensor(&name("mlp.up_proj"), &[intermediate, hidden]);
        let down = self.tensor(&name("mlp.down_proj"), &[hidden, intermediate]);
        for row in rows {
            let x = rms(row, &norm);
            let inner: Vec<f64> = times(&gate, &x).iter().zip(times(&up, &x)).map(|(g, u)| silu(*g) * u).collect();
            row.iter_mut().zip(times(&down, &inner)).for_each(|(x, y)| *x += y);
        }
    }
}

/// Attention weights of a query over the tokens of a set up to its position.
pub(crate) fn weights(set: &Set, query: &[f64], position: u32) -> BTreeMap<u32, f64> {
    let scale = (query.len() as f64).sqrt();
    let logits: BTreeMap<u32, f64> =
        set.range(..=position).map(|(at, token)| (*at, dot(query, &token.key) / scale)).collect();
    softmax(&logits)
}

pub(crate) fn softmax(logits: &BTreeMap<u32, f64>) -> BTreeMap<u32, f64> {
    let most = logits.values().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.values().map(|logit| (logit - most).exp()).sum();
    logits.iter().map(|(at, logit)| (*at, (logit - most).exp() / sum)).collect()
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Rotates the pairs (`i`, `i + dim / 2`) of a head.
pub(crate) fn rotated(config: &Config, head: &[f64], position: f64) -> Vec<f64> {
    let half = head.len() / 2;
    let angle = |i: usize| position * config.rope_theta.powf(-(i as f64) / half as f64);
    let turned = (0..head.len()).map(|i| {
        let (a, b, angle) = (head[i % half], head[i % half + half], angle(i % half));
        if i < half { a * angle.cos() - b * angle.sin() } else { b * angle.cos() + a * angle.sin() }
    });
    turned.collect()
}

fn times(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix.chunks_exact(x.len()).map(|row| dot(row, x)).collect()
}

fn rms(x: &[f64], weight: &[f64]) -> Vec<f64> {
    let scale = (dot(x, x) / x.len() as f64 + 1e-5).sqrt().recip();
    x.iter().zip(weight).map(|(x, weight)| x * scale * weight).collect()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}
