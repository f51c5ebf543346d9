//! `gpu-gan summary`: a model as tables, wherever it lies.

use crate::place::Place;

#[test]
fn the_model_that_comes_with_the_program_is_shown_when_none_is_named() {
    let place = Place::empty();
    let said = place.gpu_gan("summary").succeeds().prints("dcgan-small\n").prints("747393").prints("64433");
    assert_eq!(said.stdout(), place.gpu_gan("summary dcgan-small").succeeds().stdout());
    assert_eq!(said.stderr(), "");
}

#[test]
fn a_model_file_a_run_and_a_checkpoint_of_it_show_the_same_tables() {
    let place = Place::with_run("--steps 1");
    let of_file = place.gpu_gan("summary tiny.toml").succeeds();
    let of_file =
        of_file.prints("tiny\nAs small as a model can be\n").prints("\ngenerator ").prints("\ndiscriminator ");
    let of_file = of_file.prints("  0  conv, kernel 4, stride 2, pad 1 ").prints("4 x 4 x 2");
    for same in ["run", "run/model.toml", "run/checkpoints/step-00000001.safetensors"] {
        assert_eq!(place.gpu_gan(&format!("summary {same}")).succeeds().stdout(), of_file.stdout());
    }
}

#[test]
fn what_holds_no_model_is_refused() {
    let place = Place::new();
    place.write("notes", b"hello");
    for (name, error) in [
        ("nothing", "there is no model called \"nothing\""),
        ("nothing.toml", "cannot read nothing.toml"),
        ("nothing.safetensors", "nothing.safetensors"),
        ("shapes", "shapes has no folder checkpoints, so it is not a run"),
        ("notes", "there is no model called \"notes\""),
    ] {
        place.gpu_gan(&format!("summary {name}")).refused().error(error);
    }
}
