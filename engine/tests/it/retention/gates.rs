//! Gates as files: what is read, and what is said of those that cannot be.

use std::collections::BTreeMap;
use std::path::Path;

use overbook_engine::config::Family;
use overbook_engine::cpu::Model;
use overbook_engine::retention::{Extras, GateKind, Gates, Place, Retention};
use overbook_engine::weights::{Dtype, Source};
use overbook_sim::kv::retention::policies::TrimKv;
use overbook_sim::kv::retention::{RetentionPolicy, RetentionSpec};
use safetensors::tensor::{Dtype as Stored, TensorView};

use super::{WIDTH, capacity, config, model, part, source, tokens, weights};

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Gates of the small model, under the names of their kind.
fn tensors(kind: &str) -> Tensors {
    let mut tensors = Tensors::new();
    for layer in 0..2 {
        for (tensor, shape) in [("w1", vec![WIDTH, 64]), ("b1", vec![WIDTH]), ("w2", vec![2, WIDTH]), ("b2", vec![2])] {
            let name = format!("model.layers.{layer}.{kind}.{tensor}");
            let values = source(9).tensor(&name, &shape).expect("numbers");
            tensors.insert(name, (shape, values));
        }
    }
    tensors
}

fn write(path: &Path, tensors: &Tensors) {
    let bytes: Vec<Vec<u8>> =
        tensors.values().map(|(_, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, (shape, _)), bytes)| {
        (name.clone(), TensorView::new(Stored::F32, shape.clone(), bytes).expect("tensor"))
    });
    std::fs::write(path, safetensors::serialize(views, None).expect("serialised")).expect("written");
}

/// What is said of gates that were changed.
fn refused(change: impl FnOnce(&mut Tensors)) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut tensors = tensors("gate");
    change(&mut tensors);
    write(&folder.path().join("gates.safetensors"), &tensors);
    let error = Gates::load(&config(Family::Llama), folder.path(), GateKind::Retention).unwrap_err().to_string();
    error.replace(&folder.path().display().to_string(), "DIR")
}

#[test]
fn gates_that_do_not_fit_are_named() {
    let at = |tensor: &str| format!("model.layers.1.gate.{tensor}");
    for tensor in ["w1", "b1", "w2", "b2"] {
        let said = refused(|tensors| drop(tensors.remove(&at(tensor))));
        assert!(said.ends_with(&format!("no tensor `{}`, which the configuration asks for", at(tensor))), "{said}");
        let said = refused(|tensors| tensors.get_mut(&at(tensor)).unwrap().1[1] = f32::NAN);
        assert!(said.contains(&format!("tensor `{}` holds NaN at number 1 of", at(tensor))), "{said}");
    }
    let reshaped = |tensor: &str, shape: Vec<usize>| {
        refused(|tensors| {
            let numbers = shape.iter().product();
            tensors.insert(at(tensor), (shape, vec![0.5; numbers]));
        })
    };
    let shape = |tensor: &str, got: &str, wanted: &str| {
        format!("DIR/gates.safetensors: tensor `{}` has shape {got}; the configuration makes it {wanted}", at(tensor))
    };
    assert_eq!(reshaped("w1", vec![40, 32]), shape("w1", "[40, 32]", "[40, 64]"));
    assert_eq!(reshaped("w1", vec![]), shape("w1", "[]", "[512, 64]"));
    // The first matrix says how wide the others are.
    assert_eq!(reshaped("w1", vec![48, 64]), shape("b1", "[40]", "[48]"));
    assert_eq!(reshaped("w2", vec![4, 40]), shape("w2", "[4, 40]", "[2, 40]"));
    assert_eq!(reshaped("b2", vec![2, 1]), shape("b2", "[2, 1]", "[2]"));
    let missing = Gates::load(&config(Family::Llama), Path::new("nowhere/gates.safetensors"), GateKind::Score);
    assert!(missing.unwrap_err().to_string().starts_with("nowhere/gates.safetensors: "));
}

#[test]
fn gates_of_a_file_do_what_the_same_numbers_do() {
    let config = config(Family::Llama);
    let folder = tempfile::tempdir().expect("a folder");
    let mut both = tensors("gate");
    both.extend(tensors("zap"));
    write(&folder.path().join("gates.safetensors"), &both);
    let beside = Gates::beside(&folder.path().join("model.safetensors"));
    assert_eq!(beside, Gates::beside(folder.path()));
    let gates = Gates::load(&config, &beside, GateKind::Retention).expect("gates");
    assert_eq!(Gates::load(&config, folder.path(), GateKind::Score).expect("gates").kind(), GateKind::Score);
    let spec = RetentionSpec::strict(RetentionPolicy::TrimKv(TrimKv::default()), 10);
    let extras = Extras { gates: Some(std::sync::Arc::new(gates)), ..Extras::default() };
    let retention = Retention::new(&spec, &config, &extras).expect("a retention");
    let weights = weights(&config, 9, Dtype::F32);
    let mut loaded = Model::retaining(config.clone(), weights, &capacity(&config, 20), retention).expect("a model");
    let mut drawn = model(&config, &spec, 9, Dtype::F32);
    let (tokens, table) = (tokens(40, 9), (0..10).collect::<Vec<u32>>());
    let step = [part(0, 0, 40, true)];
    assert_eq!(loaded.forward(&tokens, &step, &[&table]), drawn.forward(&tokens, &step, &[&table]));
    for (layer, head) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let place = Place { seat: 0, layer, head };
        assert_eq!(loaded.kept(place), drawn.kept(place));
        assert_eq!(loaded.kept(place).map(<[u32]>::len), Some(10));
    }
}
