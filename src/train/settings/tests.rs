use super::*;
use crate::data::Tiles;
use crate::recipe::Interval;

pub(in crate::train) fn settings(images: usize, batch_size: usize) -> Settings {
    let model = Model::named("dcgan-small").unwrap();
    Settings {
        data: "mnist".into(),
        data_fingerprint: "0".into(),
        images,
        model: model.name.clone(),
        init: None,
        batch_size,
        d_steps: 1,
        steps: 100,
        seed: 1,
        ema: Ema::Decay(0.999),
        adam: model.training.adam,
        objective: Objective::default(),
        rates: Rates::default(),
        augment: Augment::default(),
        classes: None,
        diff_augment: DiffAugment::default(),
        adaptive_augment: false,
        output: OutputSettings::default(),
        data_memory: None,
        device: Recipe::built_in().device,
        ranks: 1,
    }
}

#[test]
fn an_epoch_ends_with_the_step_that_takes_its_last_image() {
    let settings = settings(60_000, 128);
    assert_eq!([1, 2].map(|epochs| settings.steps_of(epochs)), [469, 938]);
    assert_eq!([1, 469, 470].map(|step| settings.epoch_of(step)), [1, 1, 2]);
    assert_eq!([0, 468, 469, 470].map(|step| settings.completed_epoch(step)), [Some(0), None, Some(1), None]);
}

#[test]
fn epochs_smaller_than_a_batch_still_have_their_steps() {
    let settings = settings(3, 8);
    assert_eq!([1, 2, 3, 8].map(|epochs| settings.steps_of(epochs)), [1, 1, 2, 3]);
    assert_eq!([1, 2].map(|step| settings.epoch_of(step)), [1, 3]);
    assert_eq!(Interval::Epochs(1).next_after(1, &settings), 2);
}

#[test]
fn angles_that_are_none_and_quarter_turns_of_what_is_not_square_are_refused() {
    let mut model = Model::named("dcgan-small").unwrap();
    let with = |augment| Settings { augment, ..settings(1000, 128) };
    for rotate in [0.0, 20.0, 180.0] {
        with(Augment { rotate, flip: true, quarter_turns: true }).check(&model).unwrap();
    }
    for rotate in [-1.0, 180.1, f64::NAN, f64::INFINITY] {
        let error = with(Augment { rotate, ..Augment::default() }).check(&model).unwrap_err();
        assert!(error.to_string().starts_with("`rotate`: "), "{error}");
    }
    model.image[0] += 1;
    let error = with(Augment { quarter_turns: true, ..Augment::default() }).check(&model).unwrap_err();
    assert_eq!(error.to_string(), "images of 28 x 29 pixels cannot be turned by quarter turns");
    with(Augment { rotate: 20.0, flip: true, quarter_turns: false }).check(&model).unwrap();
}

#[test]
fn a_step_with_several_batches_takes_as_many_images_and_epochs_have_fewer_steps() {
    let settings = Settings { d_steps: 5, ..settings(60_000, 64) };
    assert_eq!(settings.images_per_step(), 320);
    assert_eq!([1, 2].map(|epochs| settings.steps_of(epochs)), [188, 375]);
    assert_eq!([1, 188, 189].map(|step| settings.epoch_of(step)), [1, 1, 2]);
    assert_eq!([187, 188, 375].map(|step| settings.completed_epoch(step)), [None, Some(1), Some(2)]);
    assert_eq!(Interval::Epochs(1).next_after(188, &settings), 375);
    let half_life = Ema::HalfLife { images: 640 };
    assert!((half_life.decay(settings.images_per_step()) - 0.5_f64.sqrt()).abs() < 1e-15);
}

#[test]
fn what_a_recipe_decided_is_decided_again_by_the_recipe_that_is_saved() {
    let model = Model::named("dcgan-fast-64").unwrap();
    let mut settings = Settings::bare(&model, 500, 8);
    settings.data = Source { tiles: Some(Tiles { side: 64, stride: 32 }), upscale: true, ..Source::from("aerial") };
    settings.data_fingerprint = "1".into();
    settings.ema = Ema::HalfLife { images: 640 };
    settings.rates = Rates { restart: Some(7), decay_steps: Some(9), discriminator: Some(0.125), ..settings.rates };
    settings.augment = Augment { rotate: 20.0, flip: true, quarter_turns: true };
    settings.output = OutputSettings {
        sample_every: Interval::Times(3),
        checkpoint_every: Interval::Steps(1),
        keep_checkpoints: None,
        eval_every: None,
        stop_when_flat: None,
        tensorboard: false,
    };
    settings.device.mixed_precision = Some(true);
    settings.data_memory = Some(5);
    settings.init = Some(InitSource { path: "runs/other".into(), fingerprint: "2".into() });
    let read = Settings::saved(&settings.recipe(), settings.facts()).unwrap();
    assert_eq!(read, settings);
    let text = serde_json::to_string(&settings.recipe().to_table()).unwrap();
    assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), settings.recipe());
}

#[test]
fn a_recipe_decides_before_the_model_which_decides_before_what_is_built_in() {
    let model = Model::named("dcgan-fast").unwrap();
    let bare = Settings::bare(&model, 60_000, 64);
    assert_eq!((bare.adam.lr, bare.adam.beta1, bare.seed), (2e-3, 0.0, 0));
    let mut recipe = Recipe::default();
    recipe.training.lr = Some(0.25);
    recipe.training.epochs = Some(1);
    let settings = Settings::decide(&recipe, &model, 60_000);
    assert_eq!((settings.adam.lr, settings.adam.beta1, settings.seed), (0.25, 0.0, 0));
    assert_eq!((settings.steps, bare.steps), (938, 7500));
}

#[test]
fn a_model_that_asks_for_diff_augment_gets_it_on_few_images_unless_the_recipe_decides() {
    let model = Model::named("dcgan-fast-64").unwrap();
    let decided = |recipe: &Recipe, images| Settings::decide(recipe, &model, images).diff_augment;
    assert_eq!(decided(&Recipe::default(), FEW_IMAGES - 1), DiffAugment::ALL);
    assert_eq!(decided(&Recipe::default(), FEW_IMAGES), DiffAugment::default());
    let mut recipe = Recipe::default();
    recipe.augmentation.diff_augment = Some(DiffAugment::default());
    assert_eq!(decided(&recipe, 100), DiffAugment::default());
}

#[test]
fn what_is_out_of_range_is_refused_by_its_name() {
    let model = Model::named("dcgan-small").unwrap();
    let mut wrong = settings(1000, 128);
    wrong.adam.lr = 2.0;
    let error = wrong.check(&model).unwrap_err();
    assert_eq!(error.to_string(), "`lr`: 2.0 is out of range 1e-12..=1.0");
    let error = Settings { steps: 0, ..settings(1000, 128) }.check(&model).unwrap_err();
    assert!(error.to_string().starts_with("`steps`: 0 is out of range 1..="), "{error}");
}
