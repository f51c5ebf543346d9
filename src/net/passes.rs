//! The operations of each kind of layer: forward, and below it the gradients.

use super::layer::Shape;
use super::network::Chance;
use crate::program::random::stream;
use crate::program::{Activation, Geometry, Op, Program, TensorId};

/// One layer in one pass of its network: where operations go, and how tensors are called.
pub(super) struct Pass<'a> {
    /// Operations are appended to its newest routine.
    pub(super) program: &'a mut Program,
    /// `discriminator.3`.
    pub(super) layer: String,
    /// Which of a network's passes it is.
    pub(super) label: &'a str,
}

/// The tensors of a layer that a backward pass writes.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The gradients of its parameters, in the parameters' order.
    pub(super) params: Option<&'a [TensorId]>,
    /// The gradient for its input.
    pub(super) input: bool,
}

impl Pass<'_> {
    /// A batch of images: `discriminator.3.y (both)`.
    fn images(&mut self, letter: &str, n: usize, [h, w, c]: Shape) -> TensorId {
        let name = self.name(letter);
        self.program.tensor(name, &[n, h, w, c])
    }

    /// A tensor of the shape of another.
    fn like(&mut self, letter: &str, other: TensorId) -> TensorId {
        let shape = self.program.shape(other).to_vec();
        let name = self.name(letter);
        self.program.tensor(name, &shape)
    }

    fn name(&self, letter: &str) -> String {
        format!("{}.{letter} ({})", self.layer, self.label)
    }

    fn batch(&self, x: TensorId) -> usize {
        self.program.nhwc(x)[0]
    }

    /// A linear layer is a convolution of an image of one pixel. `params` are its weights and perhaps its bias.
    pub(super) fn conv(&mut self, x: TensorId, params: &[TensorId], output: Shape, geometry: Geometry) -> TensorId {
        let y = self.images("y", self.batch(x), output); // (N, H', W', C_OUT)
        self.program.push(Op::Conv { x, w: params[0], b: params.get(1).copied(), y, geometry });
        y
    }

    pub(super) fn conv_grad(
        &mut self,
        x: TensorId,
        dy: TensorId,
        params: &[TensorId],
        geometry: Geometry,
        wanted: Wanted<'_>,
    ) -> Option<TensorId> {
        if let Some(grads) = wanted.params {
            self.conv_weight_grad(x, dy, grads[0], geometry);
            self.bias_grad(dy, grads);
        }
        wanted.input.then(|| {
            let dx = self.like("dx", x);
            self.program.push(Op::ConvGradInput { dy, w: params[0], b: None, dx, geometry });
            dx
        })
    }

    /// The image `y` is what the reversed convolution would have taken, and `x` what it would have given.
    pub(super) fn transposed_conv(
        &mut self,
        x: TensorId,
        params: &[TensorId],
        output: Shape,
        geometry: Geometry,
    ) -> TensorId {
        let y = self.images("y", self.batch(x), output); // (N, H', W', C_OUT), larger than x
        self.program.push(Op::ConvGradInput { dy: x, w: params[0], b: params.get(1).copied(), dx: y, geometry });
        y
    }

    pub(super) fn transposed_conv_grad(
        &mut self,
        x: TensorId,
        dy: TensorId,
        params: &[TensorId],
        geometry: Geometry,
        wanted: Wanted<'_>,
    ) -> Option<TensorId> {
        if let Some(grads) = wanted.params {
            self.conv_weight_grad(dy, x, grads[0], geometry);
            self.bias_grad(dy, grads);
        }
        wanted.input.then(|| {
            let dx = self.like("dx", x);
            self.program.push(Op::Conv { x: dy, w: params[0], b: None, y: dx, geometry });
            dx
        })
    }

    /// Of a transposed convolution, which is one read backward, `x` and `dy` change places.
    pub(super) fn conv_weight_grad(&mut self, x: TensorId, dy: TensorId, dw: TensorId, geometry: Geometry) {
        self.program.push(Op::ConvGradWeight { x, dy, dw, geometry });
    }

    fn bias_grad(&mut self, dy: TensorId, grads: &[TensorId]) {
        if let Some(&db) = grads.get(1) {
            self.program.push(Op::BiasGrad { dy, db });
        }
    }

    /// With the statistics of each group of the batch. Returns the output and what the gradient needs.
    pub(super) fn batch_norm(
        &mut self,
        x: TensorId,
        affine: TensorId,
        running: TensorId,
        groups: usize,
        (eps, momentum): (f64, f64),
    ) -> (TensorId, TensorId) {
        let y = self.like("y", x);
        let saved = {
            let channels = self.program.nhwc(x)[3];
            let name = self.name("saved");
            self.program.tensor(name, &[groups, 2, channels])
        };
        self.program.push(Op::BatchNorm { x, affine, y, saved, running, groups, eps, momentum });
        (y, saved)
    }

    /// With the running statistics.
    pub(super) fn batch_norm_eval(&mut self, x: TensorId, affine: TensorId, running: TensorId, eps: f64) -> TensorId {
        let y = self.like("y", x);
        self.program.push(Op::BatchNormEval { x, affine, running, y, eps });
        y
    }

    /// One operation gives both gradients, so that for the input is there whether wanted or not.
    pub(super) fn batch_norm_grad(
        &mut self,
        x: TensorId,
        dy: TensorId,
        affine: TensorId,
        (saved, groups): (TensorId, usize),
        wanted: Wanted<'_>,
    ) -> Option<TensorId> {
        let dx = self.like("dx", x);
        self.program.push(Op::BatchNormGrad {
            x,
            dy,
            affine,
            saved,
            dx,
            daffine: wanted.params.map(|grads| grads[0]),
            groups,
        });
        wanted.input.then_some(dx)
    }

    pub(super) fn activation(&mut self, kind: Activation, x: TensorId) -> TensorId {
        let y = self.like("y", x);
        self.program.push(Op::Activation { kind, x, y });
        y
    }

    pub(super) fn activation_grad(
        &mut self,
        kind: Activation,
        y: TensorId,
        dy: TensorId,
        wanted: Wanted<'_>,
    ) -> Option<TensorId> {
        wanted.input.then(|| {
            let dx = self.like("dx", y);
            self.program.push(Op::ActivationGrad { kind, y, dy, dx });
            dx
        })
    }

    pub(super) fn upsample(&mut self, x: TensorId, output: Shape) -> TensorId {
        let y = self.images("y", self.batch(x), output);
        self.program.push(Op::Upsample { x, y });
        y
    }

    pub(super) fn upsample_grad(&mut self, x: TensorId, dy: TensorId, wanted: Wanted<'_>) -> Option<TensorId> {
        wanted.input.then(|| {
            let dx = self.like("dx", x);
            self.program.push(Op::UpsampleGrad { dy, dx });
            dx
        })
    }

    pub(super) fn max_pool(&mut self, x: TensorId, output: Shape, size: usize) -> TensorId {
        let y = self.images("y", self.batch(x), output);
        self.program.push(Op::MaxPool { x, y, size });
        y
    }

    pub(super) fn max_pool_grad(
        &mut self,
        x: TensorId,
        dy: TensorId,
        size: usize,
        wanted: Wanted<'_>,
    ) -> Option<TensorId> {
        wanted.input.then(|| {
            let dx = self.like("dx", x);
            self.program.push(Op::MaxPoolGrad { x, dy, dx, size });
            dx
        })
    }

    pub(super) fn minibatch_deviation(&mut self, x: TensorId, output: Shape, group: usize) -> TensorId {
        let y = self.images("y", self.batch(x), output);
        self.program.push(Op::MinibatchDeviation { x, y, group });
        y
    }

    pub(super) fn minibatch_deviation_grad(
        &mut self,
        x: TensorId,
        dy: TensorId,
        group: usize,
        wanted: Wanted<'_>,
    ) -> Option<TensorId> {
        wanted.input.then(|| {
            let dx = self.like("dx", x);
            self.program.push(Op::MinibatchDeviationGrad { x, dy, dx, group });
            dx
        })
    }

    /// Returns the output and the stream that it was drawn from, which no other dropout of the program shares.
    pub(super) fn dropout(&mut self, x: TensorId, rate: f64, Chance { clock, seed }: Chance) -> (TensorId, u32) {
        let ops = self.program.routines().iter().flat_map(|routine| &routine.ops);
        let used = ops.filter_map(|op| if let Op::Dropout { stream, .. } = op { Some(*stream) } else { None });
        let stream = used.max().map_or(stream::DROPOUT, |last| last + 1);
        let y = self.like("y", x);
        self.program.push(Op::Dropout { clock, x, y, seed, stream, rate });
        (y, stream)
    }

    /// The forward pass again, on the gradient: it draws the same numbers.
    pub(super) fn dropout_grad(
        &mut self,
        dy: TensorId,
        rate: f64,
        Chance { clock, seed }: Chance,
        stream: u32,
        wanted: Wanted<'_>,
    ) -> Option<TensorId> {
        wanted.input.then(|| {
            let dx = self.like("dx", dy);
            self.program.push(Op::Dropout { clock, x: dy, y: dx, seed, stream, rate });
            dx
        })
    }

    /// The same numbers under another shape: no operation at all.
    pub(super) fn reshape(&mut self, x: TensorId, [h, w, c]: Shape) -> TensorId {
        self.program.reshaped(x, &[self.batch(x), h, w, c])
    }

    pub(super) fn reshape_grad(&mut self, dy: TensorId, [h, w, c]: Shape, wanted: Wanted<'_>) -> Option<TensorId> {
        wanted.input.then(|| self.program.reshaped(dy, &[self.batch(dy), h, w, c]))
    }
}
