//! Checkpoints of format 2, which earlier versions wrote, in the names of format 3.
//!
//! Format 2 saved settings in nested tables (`adam.lr`, `objective.penalty.r1`) under the names of fields, and knew nothing of what
//! a run writes and when. Its model files had the same tables in `[training]`.

use serde_json::{Map, Value};
use toml::Table;

/// The prefix of the names of the EMA in format 2.
const EMA: &str = "average.";

/// The JSON pointer of each setting in format 2, and its key in a recipe.
const SETTINGS: [(&str, &str); 32] = [
    ("/data", "data"),
    ("/tiles/side", "tile"),
    ("/tiles/stride", "stride"),
    ("/upscale", "upscale"),
    ("/model", "model"),
    ("/batch_size", "batch-size"),
    ("/d_steps", "d-steps"),
    ("/steps", "steps"),
    ("/seed", "seed"),
    ("/average/half-life", "ema-half-life"),
    ("/average", "ema-decay"),
    ("/adam/lr", "lr"),
    ("/adam/beta1", "beta1"),
    ("/adam/beta2", "beta2"),
    ("/adam/eps", "eps"),
    ("/objective/loss", "loss"),
    ("/objective/label-smoothing", "label-smoothing"),
    ("/objective/penalty/r1", "r1"),
    ("/objective/penalty/r2", "r2"),
    ("/objective/penalty/gp", "gp"),
    ("/objective/penalty/every", "penalty-every"),
    ("/rates/discriminator", "d-lr"),
    ("/rates/warm-up", "warm-up"),
    ("/rates/decay", "decay"),
    ("/rates/last", "last-rate"),
    ("/augment/rotate", "rotate"),
    ("/augment/flip", "flip"),
    ("/augment/quarter_turns", "quarter-turns"),
    ("/diff_augment/translation", "translation"),
    ("/diff_augment/cutout", "cutout"),
    ("/diff_augment/colour", "colour"),
    ("/diff_augment", "diff-augment"),
];

/// The JSON pointer of each fact of a run in format 2, and its key in format 3.
const FACTS: [(&str, &str); 4] = [
    ("/model", "model-name"),
    ("/images", "images"),
    ("/data_fingerprint", "data-fingerprint"),
    ("/classes", "classes"),
];

/// Keys of `[training]` in model files of format 2: their table, their old key and their new key.
const MODEL_KEYS: [(Option<&str>, &str, &str); 15] = [
    (None, "average", "ema-decay"),
    (None, "average-half-life", "ema-half-life"),
    (None, "least-steps", "min-steps"),
    (Some("adam"), "lr", "lr"),
    (Some("adam"), "beta1", "beta1"),
    (Some("adam"), "beta2", "beta2"),
    (Some("adam"), "eps", "eps"),
    (Some("penalty"), "r1", "r1"),
    (Some("penalty"), "r2", "r2"),
    (Some("penalty"), "gp", "gp"),
    (Some("penalty"), "every", "penalty-every"),
    (Some("rates"), "discriminator", "d-lr"),
    (Some("rates"), "warm-up", "warm-up"),
    (Some("rates"), "decay", "decay"),
    (Some("rates"), "last", "last-rate"),
];

/// The metadata as format 3 has it.
///
/// # Errors
///
/// A sentence where the text of the model file is not TOML.
pub(super) fn metadata(old: &Value) -> Result<Value, String> {
    let settings = old.get("settings").ok_or("it has no settings")?;
    let renamed = |names: &[(&str, &str)]| -> Map<String, Value> {
        let value =
            |path: &str| settings.pointer(path).filter(|value| !value.is_null() && !is_table_of_options(path, value));
        names.iter().filter_map(|(path, key)| Some(((*key).to_string(), value(path)?.clone()))).collect()
    };
    let mut recipe = renamed(&SETTINGS);
    let changes = ["translation", "cutout", "colour"].map(|change| (change, recipe.remove(change)));
    let changes: Vec<&str> =
        changes.iter().filter(|(_, on)| *on == Some(Value::Bool(true))).map(|(change, _)| *change).collect();
    recipe.insert("diff-augment".into(), if changes.is_empty() { "none".into() } else { changes.join(",").into() });
    let model = old.get("model").and_then(Value::as_str).ok_or("it has no model")?;
    Ok(serde_json::json!({
        "format": super::FORMAT,
        "version": old.get("version"),
        "step": old.get("step"),
        "recipe": recipe,
        "run": renamed(&FACTS),
        "model": self::model(model)?,
    }))
}

/// Whether a value is a table whose entries have keys of their own.
fn is_table_of_options(path: &str, value: &Value) -> bool {
    value.is_object() && path != "/classes"
}

/// The name of a tensor as format 3 has it.
pub(super) fn tensor(name: &str) -> String {
    name.strip_prefix(EMA).map_or_else(|| name.to_string(), |name| format!("{}{name}", super::EMA))
}

/// The text of a model file. Its comments are lost.
fn model(text: &str) -> Result<String, String> {
    let mut file: Table = text.parse().map_err(|error| format!("its model is not TOML: {error}"))?;
    if let Some(training) = file.get_mut("training").and_then(toml::Value::as_table_mut) {
        for (table, old, new) in MODEL_KEYS {
            let section = match table {
                Some(table) => training.get_mut(table).and_then(toml::Value::as_table_mut),
                None => Some(&mut *training),
            };
            if let Some(value) = section.and_then(|section| section.remove(old)) {
                training.insert(new.into(), value);
            }
        }
        for (table, _, _) in MODEL_KEYS {
            let empty =
                table.filter(|table| training.get(*table).and_then(toml::Value::as_table).is_some_and(Table::is_empty));
            empty.map(|table| training.remove(table));
        }
    }
    Ok(file.to_string())
}
