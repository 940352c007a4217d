//! Weight files: what is read, and what is said of those that cannot be.

use std::collections::BTreeMap;
use std::path::Path;

use overbook_engine::config::{Config, Family};
use overbook_engine::weights::{Dtype, Files, Source, Weights, WeightsError};
use safetensors::tensor::{Dtype as Stored, TensorView};

use crate::support::{Loud, config};

type Tensors = BTreeMap<String, (Stored, Vec<usize>, Vec<u8>)>;

/// Every tensor of a model in f32.
fn tensors(config: &Config) -> Tensors {
    /// Notes what is asked for.
    struct Record(std::cell::RefCell<Tensors>);
    impl Source for Record {
        fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
            let values = Loud { seed: 1, factor: 1.0 }.tensor(name, shape)?;
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            self.0.borrow_mut().insert(name.to_owned(), (Stored::F32, shape.to_vec(), bytes));
            Ok(values)
        }
    }
    let record = Record(std::cell::RefCell::default());
    Weights::from_source(config, &record, Dtype::F32).unwrap();
    record.0.into_inner()
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).expect("tensor"))
    });
    std::fs::write(path, safetensors::serialize(views, None).expect("serialised")).unwrap();
}

/// What is said of a model whose tensors were changed.
fn refused(change: impl FnOnce(&mut Tensors)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let config = config(Family::Qwen3, 4, 2);
    let mut tensors = tensors(&config);
    change(&mut tensors);
    write(&folder.path().join("model.safetensors"), &tensors);
    let error = Weights::load(&config, folder.path(), Dtype::F32).unwrap_err().to_string();
    error.replace(&folder.path().display().to_string(), "DIR")
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let key = "model.layers.1.self_attn.k_proj.weight";
    assert_eq!(
        refused(|tensors| drop(tensors.remove(key))),
        format!("DIR: no tensor `{key}`, which the configuration asks for")
    );
    assert_eq!(
        refused(|tensors| tensors.get_mut(key).unwrap().1 = vec![128, 32]),
        format!("DIR/model.safetensors: tensor `{key}` has shape [128, 32]; the configuration makes it [64, 64]")
    );
    assert_eq!(
        refused(|tensors| tensors.get_mut(key).unwrap().0 = Stored::I32),
        format!("DIR/model.safetensors: tensor `{key}` holds i32; f32, f16 and bf16 are supported")
    );
}

#[test]
fn numbers_that_are_none_are_found_with_their_tensor() {
    let key = "model.layers.1.mlp.down_proj.weight";
    for (value, name) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let told = refused(|tensors| {
            let bytes = &mut tensors.get_mut(key).unwrap().2;
            let at = bytes.len() - 12;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        });
        let wanted = format!("DIR/model.safetensors: tensor `{key}` holds {name} at number ");
        assert!(told.starts_with(&wanted) && told.contains("weights must be finite"), "{told}");
        let place: Vec<usize> = told[wanted.len()..].split([' ', ';']).filter_map(|word| word.parse().ok()).collect();
        assert_eq!(place[0] + 3, place[1], "the third from the end: {told}");
    }
}

#[test]
fn broken_files_are_told_from_absent_ones() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| {
        let error = Files::open(path).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "DIR")
    };
    assert_eq!(open(folder.path()), "DIR: neither model.safetensors nor model.safetensors.index.json is there");
    let file = folder.path().join("model.safetensors");
    assert!(open(&file).starts_with("DIR/model.safetensors: No such file"));
    let config = config(Family::Llama, 2, 2);
    write(&file, &tensors(&config));
    let whole = std::fs::read(&file).unwrap();
    let broken = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let error = open(&file);
        error.strip_prefix("DIR/model.safetensors: not a usable safetensors file: ").expect(&error).to_owned()
    };
    assert_eq!(broken(&[]), "0 bytes are too few for a header");
    assert_eq!(broken(&whole[..7]), "7 bytes are too few for a header");
    assert_eq!(broken(b"garbage, garbage, garbage"), "a header of 3199076778277757287 bytes in a file of 25");
    let cut = whole.len() - 1;
    assert_eq!(broken(&whole[..cut]), format!("its header makes it {} bytes long; it has {cut}", cut + 1));
    let mut header = whole.clone();
    header[9] = b'}';
    assert!(broken(&header).contains("line 1"));
    // An index that names a shard that is not there.
    std::fs::remove_file(&file).unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(&index, r#"{"weight_map": {"a": "model-00001.safetensors"}}"#).unwrap();
    assert!(open(folder.path()).starts_with("DIR/model-00001.safetensors: No such file"));
    std::fs::write(&index, "{}").unwrap();
    assert!(open(folder.path()).contains("missing field `weight_map`"));
}

#[test]
fn one_file_shards_and_half_precision_hold_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(Family::Qwen2, 4, 2);
    let all = tensors(&config);
    let read = |path: &Path, name: &str, shape: &[usize]| Files::open(path).unwrap().tensor(name, shape).unwrap();
    let (name, shape) = ("model.layers.0.self_attn.q_proj.bias", [128]);
    let wanted = Loud { seed: 1, factor: 1.0 }.tensor(name, &shape).unwrap();
    write(&folder.path().join("model.safetensors"), &all);
    assert_eq!(read(folder.path(), name, &shape), wanted);
    assert!(Weights::load(&config, folder.path(), Dtype::Bf16).is_ok());
    // The same in two shards.
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (index, shard) in ["a.safetensors", "b.safetensors"].into_iter().enumerate() {
        let part: Tensors =
            all.clone().into_iter().enumerate().filter(|(i, _)| i % 2 == index).map(|(_, t)| t).collect();
        map.extend(part.keys().map(|name| (name.clone(), shard.into())));
        write(&folder.path().join(shard), &part);
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    assert_eq!(read(folder.path(), name, &shape), wanted);
    assert_eq!(Files::open(folder.path()).unwrap().names().count(), all.len());
    // f16 and bf16 hold one, a third as near as they can, and two.
    let file = folder.path().join("half.safetensors");
    for (dtype, third, near) in [(Stored::F16, 0x3555_u16, 0.333_251_95), (Stored::BF16, 0x3eab, 0.333_984_38)] {
        let one: u16 = if dtype == Stored::F16 { 0x3c00 } else { 0x3f80 };
        let bytes = [one, third, 0x4000].into_iter().flat_map(u16::to_le_bytes).collect();
        write(&file, &Tensors::from([("t".to_owned(), (dtype, vec![3], bytes))]));
        assert_eq!(read(&file, "t", &[3]), [1.0, near, 2.0]);
    }
}

#[test]
fn widths_that_the_cpu_cannot_take_are_refused() {
    let config = Config { intermediate: 100, ..config(Family::Llama, 2, 2) };
    let error = Weights::dummy(&config, 1, Dtype::F32).unwrap_err().to_string();
    assert_eq!(error, "`intermediate_size` is 100; the CPU engine needs a multiple of 32");
}
