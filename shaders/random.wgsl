// random.wgsl: counter-based random numbers. Compiled into the shaders that draw some.
//
//   philox           four random words from a counter and a key: Philox 4x32-10 (Salmon et al. 2011)
//   shuffled         which of `count` images is number g of a run: a keyed permutation for each epoch
//   uniform_numbers  random words as numbers in (0, 1)
//   circle           cosine and sine of an angle
//
// The same integers as on the host, bit for bit.
// Twin      src/program/random.rs

// Low word of the seed.
override SEED_LOW: u32 = 0u;
// High word of the seed.
override SEED_HIGH: u32 = 0u;

// Random stream of the order of images.
const STREAM_SHUFFLE = 0u;
// Random stream of the augmentation of real images.
const STREAM_AUGMENT = 3u;

// The high word of a * b; WGSL has no such operation.
fn multiply_high(a: u32, b: u32) -> u32 {
    let a_low = a & 0xffffu;
    let a_high = a >> 16u;
    let b_low = b & 0xffffu;
    let b_high = b >> 16u;
    let middle = a_high * b_low + ((a_low * b_low) >> 16u);
    let carried = a_low * b_high + (middle & 0xffffu);
    return a_high * b_high + (middle >> 16u) + (carried >> 16u);
}

fn philox(counter: vec4<u32>) -> vec4<u32> {
    var c = counter;
    var key = vec2<u32>(SEED_LOW, SEED_HIGH);
    for (var round = 0u; round < 10u; round++) {
        c = vec4<u32>(
            multiply_high(c.z, 0xCD9E8D57u) ^ c.y ^ key.x,
            c.z * 0xCD9E8D57u,
            multiply_high(c.x, 0xD2511F53u) ^ c.w ^ key.y,
            c.x * 0xD2511F53u,
        );
        key += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

// The finaliser of MurmurHash3: every bit of the input affects every bit of the result.
fn mix_bits(word: u32) -> u32 {
    var mixed = (word ^ (word >> 16u)) * 0x85EBCA6Bu;
    mixed = (mixed ^ (mixed >> 13u)) * 0xC2B2AE35u;
    return mixed ^ (mixed >> 16u);
}

// half_bits is half the bits of the smallest power of four that is at least count.
fn shuffled(g: u32, count: u32, half_bits: u32) -> u32 {
    let epoch = g / count;
    let keys = array<vec4<u32>, 2>(
        philox(vec4<u32>(0u, epoch, STREAM_SHUFFLE, 0u)),
        philox(vec4<u32>(1u, epoch, STREAM_SHUFFLE, 0u)),
    );
    let mask = (1u << half_bits) - 1u;
    var value = g % count;
    // A Feistel network on the power of four, walked until it falls below count.
    loop {
        var halves = vec2<u32>(value >> half_bits, value & mask);
        for (var block = 0u; block < 2u; block++) {
            for (var word = 0u; word < 4u; word++) {
                halves = vec2<u32>(halves.y, halves.x ^ (mix_bits(halves.y ^ keys[block][word]) & mask));
            }
        }
        value = (halves.x << half_bits) | halves.y;
        if value < count { break; }
    }
    return value;
}

// The centre of one of 2^23 equal intervals of (0, 1): exact in f32, never 0 or 1.
fn uniform_numbers(words: vec4<u32>) -> vec4<f32> {
    return (vec4<f32>(words >> vec4<u32>(9u)) + 0.5) * 0x1p-23;
}

// Cosine and sine of an angle in turns, within [-0.5, 0.5]: Taylor series after subtracting the nearest quarter turn.
// WGSL allows the built-in sin and cos errors of 2^-11, and drivers differ. Random numbers must be the same on every device, so
// this one is written out, accurate to the last digits of f32.
fn circle(turns: f32) -> vec2<f32> {
    let quarter = round(4.0 * turns);
    let a = 6.283185307179586 * (turns - 0.25 * quarter); // the difference is exact
    let q = a * a;
    let c = 1.0 - q * (1.0 / 2.0 - q * (1.0 / 24.0 - q * (1.0 / 720.0 - q * (1.0 / 40320.0 - q * (1.0 / 3628800.0)))));
    let s = a * (1.0 - q * (1.0 / 6.0 - q * (1.0 / 120.0 - q * (1.0 / 5040.0 - q * (1.0 / 362880.0)))));
    switch i32(quarter) {
        case 0: { return vec2<f32>(c, s); }
        case 1: { return vec2<f32>(-s, c); }
        case -1: { return vec2<f32>(s, -c); }
        default: { return vec2<f32>(-c, -s); }
    }
}
