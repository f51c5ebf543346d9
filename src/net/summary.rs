//! A model as tables: shapes, parameters and floating-point operations of each layer.

use std::fmt;

use super::layer::{Layer, Shape};
use super::model::Model;
use super::network::{Network, Wrt};
use super::pass::{DropoutRng, Mode};
use super::shape::{DisplayShape, place};
use crate::program::{Centre, Element, Program};
use crate::recipe::Penalty;

/// Both networks of a model as tables. Only matrix products are counted as floating-point operations, two for each multiply-add.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Name of the model.
    pub name: String,
    /// Description of the model in one line.
    pub about: String,
    /// Number of classes of a class-conditional model.
    pub classes: Option<usize>,
    /// The generator, then the discriminator.
    pub networks: [NetworkSummary; 2],
    /// Floating-point operations of a training step for each real image of its batch: one update of each network, with one
    /// batch of generated images.
    pub step_flops: u64,
}

/// A network as a table.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSummary {
    /// Name of the network: `generator` or `discriminator`.
    pub name: &'static str,
    /// Shape of the input.
    pub input: Shape,
    /// The layers.
    pub layers: Vec<LayerSummary>,
}

/// A layer in a table.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSummary {
    /// Position in the network, from 0.
    pub number: usize,
    /// The layer.
    pub layer: Layer,
    /// Shape of the output.
    pub output: Shape,
    /// Number of trainable parameters.
    pub parameters: u64,
    /// Number of values that training updates without gradients: running statistics or singular vectors.
    pub statistics: u64,
    /// Floating-point operations of the forward pass for one image.
    pub flops: u64,
}

impl Summary {
    /// The tables of a model.
    pub fn new(model: &Model) -> Self {
        Self {
            name: model.name.clone(),
            about: model.about.clone(),
            classes: model.classes,
            networks: model.networks().map(|(name, layers, input)| NetworkSummary::new(name, layers, input)),
            step_flops: step_flops(model),
        }
    }
}

impl NetworkSummary {
    fn new(name: &'static str, layers: &[Layer], input: Shape) -> Self {
        let placed = place(layers, input, "the input").expect("a model's layers fit together");
        let layers = placed.iter().map(|placed| LayerSummary {
            number: placed.number,
            layer: placed.layer,
            output: placed.output,
            parameters: placed.parameters() as u64,
            statistics: placed.statistics() as u64,
            flops: 2 * placed.multiply_adds(),
        });
        Self { name, input, layers: layers.collect() }
    }

    /// Number of trainable parameters.
    pub fn parameters(&self) -> u64 {
        self.layers.iter().map(|row| row.parameters).sum()
    }

    /// Number of running statistics and singular vectors. Some tools count them among the parameters.
    pub fn statistics(&self) -> u64 {
        self.layers.iter().map(|row| row.statistics).sum()
    }

    /// Floating-point operations of the forward pass for one image.
    pub fn flops(&self) -> u64 {
        self.layers.iter().map(|row| row.flops).sum()
    }
}

/// Counts the operations of a step, including the average per step of gradient penalties. The batch has two images (or packs), the
/// smallest number that batch normalisation accepts.
fn step_flops(model: &Model) -> u64 {
    let batch = 2 * model.batch_multiple();
    let program = &mut Program::new();
    let labels = model.classes.map(|_| program.tensor_of(Element::U32, "labels", &[batch]));
    let [g, d] = [Network::generator(program, model), Network::discriminator(program, model)]
        .map(|network| network.with_labels(labels));
    let ([h, w, c], packs) = (model.discriminator_input(), batch / model.pac);
    let z = program.tensor("z", &[batch, 1, 1, model.latent]);
    let [one, both] = [("one", packs), ("both", 2 * packs)].map(|(name, n)| program.tensor(name, &[n, h, w, c]));
    let rng = DropoutRng { clock: program.tensor_of(Element::U32, "clock", &[1]), seed: 0 };
    let dlogits = [2 * packs, packs].map(|n| program.tensor("dlogits", &[n, 1, 1, 1]));

    let step = program.begin("step");
    let fake = g.forward(program, z, Mode::Train { groups: 1, rng }, "fake");
    let judged = d.forward(program, both, Mode::Train { groups: 2, rng }, "both");
    d.backward(program, &judged, dlogits[0], Wrt::Params);
    let judged = d.forward(program, one, Mode::Train { groups: 1, rng }, "fake");
    d.backward(program, &judged, dlogits[1], Wrt::Input);
    g.backward(program, &fake, fake.y, Wrt::Params); // `y` has the shape of its gradient
    let flops = program.flops(step);

    let Penalty { r1, r2, gp, every } = model.training.objective.penalty;
    let penalties = [r1, r2, gp].into_iter().filter(|&weight| weight > 0.0).count() as u64;
    if penalties == 0 {
        return flops / batch as u64;
    }
    let penalty = program.begin("penalty");
    let judged = d.forward(program, one, Mode::Train { groups: 1, rng }, "penalty");
    d.penalise(program, &judged, Centre::Zero, 1.0);
    (flops + penalties * program.flops(penalty) / u64::from(every)) / batch as u64
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        if !self.about.is_empty() {
            writeln!(f, "{}", self.about)?;
        }
        if let Some(classes) = self.classes {
            writeln!(
                f,
                "Conditional on {classes} classes: a one-hot vector after the latent, and one more logit for each class"
            )?;
        }
        for network in &self.networks {
            write!(f, "\n{network}")?;
        }
        writeln!(
            f,
            "\nA training step takes {:.1} MFLOP for each image of its batch: one update of each network.",
            mflop(self.step_flops)
        )
    }
}

impl fmt::Display for NetworkSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = DisplayShape(self.input).to_string();
        let header = [self.name, "output", "parameters", "MFLOP"].map(String::from);
        let rows = self.layers.iter().map(|row| {
            [
                format!("{:>3}  {}", row.number, row.layer),
                DisplayShape(row.output).to_string(),
                some(row.parameters, |parameters| parameters.to_string()),
                some(row.flops, |flops| format!("{:.2}", mflop(flops))),
            ]
        });
        let total = [
            "     total, for each image forward".to_string(),
            String::new(),
            self.parameters().to_string(),
            format!("{:.2}", mflop(self.flops())),
        ];
        let statistics = [
            "     running statistics, untrained".to_string(),
            String::new(),
            self.statistics().to_string(),
            String::new(),
        ];
        let table: Vec<[String; 4]> = std::iter::once(header)
            .chain([["     input".to_string(), input, String::new(), String::new()]])
            .chain(rows)
            .chain([total])
            .chain((self.statistics() > 0).then_some(statistics))
            .collect();
        let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [0, 1, 2, 3].map(width);
        for [what, output, parameters, flops] in &table {
            let [a, b, c, d] = widths;
            let line = format!("{what:<a$}  {output:>b$}  {parameters:>c$}  {flops:>d$}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The number as text, or an empty text for 0: most layers have neither weights nor matrix products.
fn some(number: u64, format: impl Fn(u64) -> String) -> String {
    if number == 0 { String::new() } else { format(number) }
}

fn mflop(flops: u64) -> f64 {
    flops as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dcgan_small() -> Summary {
        Summary::new(&Model::named("dcgan-small").unwrap())
    }

    #[test]
    fn a_step_of_dcgan_small_takes_52_mflop_for_each_image() {
        let Summary { networks: [g, d], step_flops, .. } = dcgan_small();
        // The count is weights times positions of the kernel, times two for each multiply-add.
        assert_eq!(g.flops(), 2 * (147_456 + 9 * 524_288 + 36 * 73_728 + 169 * 1024));
        assert_eq!(d.flops(), 2 * (169 * 144 + 25 * 12_800 + 51_200 + 64));
        // A backward pass costs one forward pass for the weights and one for the images; the first layer needs no gradient for images.
        let generator = 3 * g.flops() - g.layers[1].flops;
        let discriminator = 2 * (3 * d.flops() - d.layers[0].flops) + 2 * d.flops();
        assert_eq!(step_flops, generator + discriminator);
        assert_eq!(format!("{:.1}", mflop(step_flops)), "52.1");
    }

    #[test]
    fn layer_flops_equal_those_of_its_operation() {
        let model = Model::named("dcgan-small").unwrap();
        let mut program = Program::new();
        let g = Network::generator(&mut program, &model);
        let z = program.tensor("z", &[1, 1, 1, 64]);
        let sheet = program.begin("sheet");
        g.forward(&mut program, z, Mode::Evaluate, "sheet");
        let rows = dcgan_small().networks[0].layers.clone();
        let of_operations = program.routines()[0].ops.iter().map(|op| op.flops(&program));
        assert_eq!(of_operations.collect::<Vec<_>>(), rows[1..].iter().map(|row| row.flops).collect::<Vec<_>>());
        assert_eq!(program.flops(sheet), dcgan_small().networks[0].flops());
    }

    #[test]
    fn a_summary_prints_as_aligned_tables() {
        let text = dcgan_small().to_string();
        for line in [
            "generator                                       output  parameters  MFLOP",
            "     input                                  1 x 1 x 64",
            "  1  transposed-conv, kernel 3, stride 2   3 x 3 x 256      147456   0.29",
            "     total, for each image forward                          747393  15.39",
            "     running statistics, untrained                             896",
            " 10  linear                            1 x 1 x 1          65   0.00",
            "  9  flatten                          1 x 1 x 64",
            "A training step takes 52.1 MFLOP for each image of its batch: one update of each network.",
        ] {
            assert!(text.lines().any(|printed| printed == line), "{text}\nhas no line\n{line}");
        }
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
    }
}
