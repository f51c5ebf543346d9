//! The inputs of a step: random numbers, batches, classes, and augmented images.

use super::clock;
use crate::program::{DiffAugment, Element, Op, Order, Program};
use crate::verify::Case;

/// The inputs of a step: random numbers, batches, labels, augmented images.
pub(super) fn inputs() -> Vec<Case> {
    let mut cases: Vec<Case> =
        [0, 1, 41].map(|step| Case::single(step, |program| Op::Tick { clock: clock(program) })).into();
    let draws = [
        (1, 1, 0, 0, 0),
        (1001, 7, 0x1234_5678_9abc_def0, 3, 0),
        (1 << 20, u32::MAX, u64::MAX, 1, 0),
        (1, 2, 7, 1, 3), // parts of a batch: they begin and end within blocks of four numbers
        (1001, 2, 7, 1, 4002),
        (70_000, 3, 9, 1, 1_000_001),
    ];
    for (len, step, seed, stream, first) in draws {
        cases.push(Case::single(step, |program| Op::Normal {
            clock: clock(program),
            y: program.tensor("y", &[len]),
            seed,
            stream,
            first,
        }));
    }
    // Up to 8192 numbers, a GPU draws them as it advances the clock.
    for (len, step, first) in [(1, 0, 0), (1001, 7, 4002), (8192, 1_000_000, 3), (8193, 1, 0)] {
        cases.push(Case::sequence(step, |program| {
            let (clock, y) = (clock(program), program.tensor("y", &[len]));
            vec![Op::Tick { clock }, Op::Normal { clock, y, seed: 99, stream: 1, first }]
        }));
    }
    let (unit, around_zero) = ([0.0, 1.0], [-1.0, 1.0]);
    let batches = [
        (1, 1, [1, 1, 1], 1, around_zero),
        (10, 4, [3, 5, 1], 1, unit),
        (10, 4, [3, 5, 3], 9, around_zero),
        (1000, 33, [7, 7, 1], 1234, around_zero),
        (7, 3, [20, 17, 1], 2, around_zero), // more pixels than a workgroup has invocations
    ];
    for (count, n, [h, w, c], step, range) in batches {
        for order in [Order::Shuffled, Order::Chunk] {
            cases.push(Case::single(step, |program| Op::Batch {
                clock: clock(program),
                images: program.tensor_of(Element::U8, "images", &[count, h, w, c]),
                y: program.tensor("y", &[n, h, w, c]),
                seed: 99,
                order,
                range,
            }));
        }
    }
    for (count, n, step) in [(1, 1, 1), (10, 4, 1), (10, 4, 9), (1003, 130, 1234)] {
        for order in [Order::Shuffled, Order::Chunk] {
            cases.push(Case::single(step, |program| Op::Labels {
                clock: clock(program),
                labels: program.tensor_of(Element::U8, "labels", &[count]),
                y: program.tensor_of(Element::U32, "y", &[n]),
                seed: 99,
                order,
            }));
        }
    }
    for shape @ [_, h, w, _] in [[3, 7, 9, 1], [5, 8, 8, 3], [2, 1, 1, 1], [4, 1, 6, 2], [130, 5, 5, 1], [2, 64, 33, 3]]
    {
        for (step, seed, rotate, first) in
            [(1, 0, 20.0, 0), (7, u64::MAX, 180.0, 64), (u32::MAX, 99, 0.5, 0), (3, 5, 0.0, 7)]
        {
            for flip in [false, true] {
                cases.push(Case::single(step, |program| Op::Augment {
                    clock: clock(program),
                    x: program.tensor("x", &shape),
                    y: program.tensor("y", &shape),
                    seed,
                    rotate,
                    flip,
                    quarter_turns: flip && h == w,
                    first,
                }));
            }
        }
    }
    for (a, b) in [(1, 1), (3, 5), (128, 1)] {
        cases.push(Case::single(1, |program| Op::Concat {
            a: program.tensor("a", &[a, 3, 3, 5]),
            b: program.tensor("b", &[b, 3, 3, 5]),
            y: program.tensor("y", &[a + b, 3, 3, 5]),
        }));
    }
    cases
}

/// The operations of conditional networks, for batches whose equal parts have the same classes.
pub(super) fn classes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, parts, classes, before) in
        [(1, 1, 1, 1), (4, 2, 10, 64), (6, 3, 3, 5), (130, 2, 10, 100), (77, 1, 256, 3), (1002, 2, 13, 257)]
    {
        let labels = |program: &mut Program| program.tensor_of(Element::U32, "labels", &[n / parts]);
        cases.push(Case::single(1, |program| Op::AppendClass {
            x: program.tensor("x", &[n, 1, 1, before]),
            labels: labels(program),
            y: program.tensor("y", &[n, 1, 1, before + classes]),
        }));
        cases.push(Case::single(1, |program| Op::PickLogit {
            logits: program.tensor("logits", &[n, 1, 1, 1 + classes]),
            labels: labels(program),
            y: program.tensor("y", &[n, 1, 1, 1]),
        }));
        cases.push(Case::single(1, |program| Op::PickLogitGrad {
            dy: program.tensor("dy", &[n, 1, 1, 1]),
            labels: labels(program),
            dlogits: program.tensor("dlogits", &[n, 1, 1, 1 + classes]),
        }));
    }
    cases
}

/// Each augmentation alone and all together, for images of one pixel, of odd and even sides, and of more pixels than invocations; with full
/// strength, and with some. Then how the strength is adapted.
pub(super) fn diff_augments() -> Vec<Case> {
    let none = DiffAugment::default();
    let chosen = [
        (DiffAugment { translation: true, ..none }, None),
        (DiffAugment { cutout: true, ..none }, None),
        (DiffAugment { colour: true, ..none }, None),
        (DiffAugment::ALL, None),
        (DiffAugment::ALL, Some(0.4)),
        (DiffAugment::ALL, Some(0.0)),
    ];
    let mut cases = Vec::new();
    for (shape, step, seed, stream, first) in [
        ([3, 1, 1, 1], 1, 0, 50, 0),
        ([5, 9, 14, 3], 7, 0x1234_5678_9abc_def0, 51, 10),
        ([40, 7, 5, 2], u32::MAX, u64::MAX, u32::MAX, 0),
        ([3, 40, 33, 3], 3, 99, 52, 129),
    ] {
        for (changes, value) in chosen {
            let forward = Case::single(step, |program| Op::DiffAugment {
                clock: clock(program),
                x: program.tensor("x", &shape),
                strength: value.map(|_| program.tensor("strength", &[1])),
                y: program.tensor("y", &shape),
                seed,
                stream,
                changes,
                first,
            });
            let grad = Case::single(step, |program| Op::DiffAugmentGrad {
                clock: clock(program),
                dy: program.tensor("dy", &shape),
                strength: value.map(|_| program.tensor("strength", &[1])),
                dx: program.tensor("dx", &shape),
                seed,
                stream,
                changes,
                first,
            });
            cases.extend([forward, grad].map(|case| match value {
                Some(value) => case.with_values("strength", &[value]),
                None => case,
            }));
        }
    }
    // Shares above, at and below the target, and probabilities at both ends of their range.
    for (step, share) in [(1, 0.75), (2, 0.5), (7, 0.25)] {
        for strength in [0.0, 0.3, 0.999, 1.0] {
            let case = Case::single(step, |program| Op::AdaptAugment {
                clock: clock(program),
                history: program.tensor("history", &[3, 2]),
                strength: program.tensor("strength", &[1]),
                target: 0.5,
                rate: 0.01,
                column: 1,
            });
            let history: Vec<f32> =
                (0..3).flat_map(|row| [2.0, if row == (step - 1) % 3 { share } else { -1.0 }]).collect();
            cases.push(case.with_values("history", &history).with_values("strength", &[strength]));
        }
    }
    cases
}
