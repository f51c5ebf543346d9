//! The section `[training]` of a model file, which is a [`Recipe`].

use super::toml_table::{ModelText, TomlTable};
use crate::error::Result;
use crate::recipe::{Mistake, Recipe};

/// Reads the section. Options that it does not give have the defaults of [`Recipe::built_in`].
pub(super) fn training(file: ModelText<'_>, top: &TomlTable<'_>) -> Result<Recipe> {
    let table = top.table("training", "[training] must be a table of options")?;
    Recipe::of_model(file.text, table)
        .map_err(|Mistake { at, message, hint }| file.mistake(&at, &format!("[training] {message}"), hint))
}

#[cfg(test)]
mod tests {
    use super::super::Model;
    use crate::recipe::{Ema, Recipe, TrainingSettings};

    /// Parses a built-in model after replacing `from` by `to`.
    fn changed(from: &str, to: &str) -> Result<Model, String> {
        let text = Model::named("dcgan-small").unwrap().to_toml().to_string();
        assert!(text.contains(from), "{from}");
        Model::parse(&text.replacen(from, to, 1), "bad.toml").map_err(|error| format!("{error}\n{}", error.hint()))
    }

    #[test]
    fn missing_training_options_have_the_built_in_defaults() {
        let model = changed("lr = 2e-4", "").unwrap();
        assert_eq!(model.recipe.training.lr, None);
        assert_eq!(Some(model.training.adam.lr), Recipe::built_in().training.lr);
        assert_eq!(changed("ema-decay = 0.999", "ema-decay = 0.5").unwrap().training.ema, Ema::Decay(0.5));
        let half_life = changed("ema-decay = 0.999", "ema-half-life = 10000").unwrap();
        assert_eq!(half_life.training.ema, Ema::HalfLife { images: 10_000 });
        let TrainingSettings { d_steps, .. } = changed("ema-decay = 0.999", "d-steps = 5").unwrap().training;
        assert_eq!(d_steps, 5);
    }

    #[test]
    fn mistakes_in_training_options_are_reported_with_line_value_and_range() {
        for (from, to, facts) in [
            ("epochs =", "epoch =", ["[training] has the unknown key `epoch`", "the keys are epochs, steps"]),
            ("epochs =", "device = \"cpu\"\nepochs =", ["[training] has the unknown key `device`", "the keys are"]),
            ("epochs = 10", "epochs = 0", ["[training] has epochs = 0", "0 is out of range 1..=1000000"]),
            ("epochs = 10", "epochs = \"ten\"", ["[training] has epochs = \"ten\"", "invalid type"]),
            ("batch-size = 128", "batch-size = 0", ["[training] has batch-size = 0", "0 is out of range 1..=65536"]),
            ("lr = 2e-4", "lr = 0", ["[training] has lr = 0", "is out of range 1e-12..=1.0"]),
            ("lr = 2e-4", "lr = -1e-3", ["[training] has lr = -1e-3", "is out of range 1e-12..=1.0"]),
            ("lr = 2e-4", "lr = inf", ["[training] has lr = inf", "is out of range 1e-12..=1.0"]),
            ("lr = 2e-4", "lr = nan", ["[training] has lr = nan", "is out of range 1e-12..=1.0"]),
            ("beta1 = 0.5", "beta1 = 1", ["[training] has beta1 = 1", "is out of range 0.0..1.0"]),
            ("beta2 = 0.99", "beta2 = 0.999999999999", ["has beta2 = 0.999999999999", "is out of range 0.0..1.0"]), // 1 in f32
            ("eps = 1e-8", "eps = 1e-50", ["[training] has eps = 1e-50", "is out of range 1e-20..=1.0"]),
            ("ema-decay = 0.999", "ema-decay = 1.0", ["[training] has ema-decay = 1.0", "is out of range 0.0..1.0"]),
            ("lr = 2e-4", "loss = \"l1\"", ["[training] has loss = \"l1\"", "unknown variant"]),
            (
                "lr = 2e-4",
                "diff-augment = \"rotation\"",
                ["has diff-augment = \"rotation\"", "translation, cutout, colour"],
            ),
            ("lr = 2e-4", "[training.adam]", ["[training] has the unknown key `adam`", "the keys are"]),
            ("lr = 2e-4", "ema-half-life = 9", ["has ema-half-life = 9: ema-decay excludes it", "leave out"]),
        ] {
            let error = changed(from, to).unwrap_err();
            let facts = facts.iter().chain(&["bad.toml, line "]);
            facts.for_each(|fact| assert!(error.contains(fact), "`{fact}` is not in {error}"));
        }
        changed("lr = 2e-4", "diff-augment = [\"cutout\", \"colour\"]").unwrap();
    }
}
