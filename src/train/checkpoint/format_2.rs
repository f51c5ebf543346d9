//! Checkpoints of format 2, which other versions wrote: their names, in those of this version.

use serde_json::Value;
use toml::Table;

/// Prefix of the names of the EMA's tensors.
const EMA: &str = "average.";

/// Renames keys: (old, new).
const MODEL_KEYS: [(&str, &str); 3] =
    [("average", "ema-decay"), ("average-half-life", "ema-half-life"), ("least-steps", "min-steps")];

/// The metadata as format 3 has it.
///
/// # Errors
///
/// A sentence where the text of the model file is not TOML.
pub(super) fn metadata(mut old: Value) -> Result<Value, String> {
    if let Some(settings) = old.get_mut("settings").and_then(Value::as_object_mut)
        && let Some(ema) = settings.remove("average")
    {
        settings.insert("ema".into(), ema);
    }
    if let Some(model) = old.get("model").and_then(Value::as_str) {
        old["model"] = self::model(model)?.into();
    }
    Ok(old)
}

/// The name of a tensor as format 3 has it.
pub(super) fn tensor(name: &str) -> String {
    name.strip_prefix(EMA).map_or_else(|| name.to_string(), |name| format!("{}{name}", super::EMA))
}

/// The text of a model file. Its comments are lost.
fn model(text: &str) -> Result<String, String> {
    let mut file: Table = text.parse().map_err(|error| format!("its model is not TOML: {error}"))?;
    if let Some(training) = file.get_mut("training").and_then(toml::Value::as_table_mut) {
        for (old, new) in MODEL_KEYS {
            if let Some(value) = training.remove(old) {
                training.insert(new.into(), value);
            }
        }
    }
    Ok(file.to_string())
}
