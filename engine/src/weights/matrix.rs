//! Rows of numbers in words of 32 bits.
//!
//! A word holds one f32, or two bf16: numbers `i` and `i + width / 2` of a row, the first in the lower half. Both halves
//! become f32 with one instruction each (a shift, a mask), and stand for stretches of the row that begin at aligned places.
//! Rows lie in groups, and take turns in them every 16 words, so that what is multiplied together is read as one stream.

use rayon::prelude::*;

use super::Dtype;

/// A matrix as the multiplication reads it, row by row.
#[derive(Clone, Debug)]
pub struct Matrix {
    rows: usize,
    width: usize,
    dtype: Dtype,
    words: Vec<u32>,
}

impl Matrix {
    /// Rows that are multiplied together; storage is filled up with rows of zeros to a multiple.
    pub const GROUP: usize = 8;
    /// Words of a row before it is the next row's turn.
    pub const TURN: usize = 16;
    /// What the width must be a multiple of.
    pub const WIDTH: usize = 32;

    /// Packs `rows` rows of `width` numbers.
    ///
    /// # Panics
    /// If the width is not a multiple of [`Matrix::WIDTH`], or `values` are not `rows * width`.
    pub fn pack(values: &[f32], rows: usize, width: usize, dtype: Dtype) -> Matrix {
        assert!(width.is_multiple_of(Matrix::WIDTH) && values.len() == rows * width, "{rows} rows of {width}");
        let row_words = width * dtype.bytes() / 4;
        let mut words = vec![0; rows.next_multiple_of(Matrix::GROUP) * row_words];
        let groups = words.par_chunks_mut(Matrix::GROUP * row_words).zip(values.par_chunks(Matrix::GROUP * width));
        groups.for_each_init(
            || vec![0; row_words],
            |packed, (words, values)| {
                for (row, values) in values.chunks_exact(width).enumerate() {
                    pack_row(values, packed, dtype);
                    let places = words.chunks_exact_mut(Matrix::TURN).skip(row).step_by(Matrix::GROUP);
                    places.zip(packed.chunks_exact(Matrix::TURN)).for_each(|(to, from)| to.copy_from_slice(from));
                }
            },
        );
        Matrix { rows, width, dtype, words }
    }

    /// Rows, without those that fill up.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How they are stored.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Words of one row.
    pub fn row_words(&self) -> usize {
        self.width * self.dtype.bytes() / 4
    }

    /// All groups, rows that fill up included.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Bytes without the rows that fill up.
    pub fn bytes(&self) -> u64 {
        (self.rows * self.width * self.dtype.bytes()) as u64
    }

    /// Writes one row's numbers.
    pub fn unpack_row(&self, row: usize, out: &mut [f32]) {
        let group = Matrix::GROUP * self.row_words();
        let words = &self.words[row / Matrix::GROUP * group..][..group];
        let turns = words.chunks_exact(Matrix::TURN).skip(row % Matrix::GROUP).step_by(Matrix::GROUP);
        let words = turns.flatten();
        match self.dtype {
            Dtype::F32 => out.iter_mut().zip(words).for_each(|(out, word)| *out = f32::from_bits(*word)),
            Dtype::Bf16 => {
                let (low, high) = out.split_at_mut(self.width / 2);
                for ((low, high), word) in low.iter_mut().zip(high).zip(words) {
                    *low = f32::from_bits(word << 16);
                    *high = f32::from_bits(word & 0xffff_0000);
                }
            }
        }
    }
}

/// Packs one row.
pub(crate) fn pack_row(values: &[f32], words: &mut [u32], dtype: Dtype) {
    match dtype {
        Dtype::F32 => words.iter_mut().zip(values).for_each(|(word, value)| *word = value.to_bits()),
        Dtype::Bf16 => {
            let (low, high) = values.split_at(values.len() / 2);
            for ((word, low), high) in words.iter_mut().zip(low).zip(high) {
                *word = bf16(*low) | bf16(*high) << 16;
            }
        }
    }
}

/// The numbers of a row as [`pack_row`] packs them.
pub(crate) fn unpack_row(words: &[u32], values: &mut [f32], dtype: Dtype) {
    match dtype {
        Dtype::F32 => values.iter_mut().zip(words).for_each(|(value, word)| *value = f32::from_bits(*word)),
        Dtype::Bf16 => {
            let (low, high) = values.split_at_mut(words.len());
            for ((low, high), word) in low.iter_mut().zip(high).zip(words) {
                *low = f32::from_bits(word << 16);
                *high = f32::from_bits(word & 0xffff_0000);
            }
        }
    }
}

/// The nearest bf16, ties to even, as 16 bits; NaN stays NaN.
pub(crate) fn bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) | 0x40;
    }
    (bits + 0x7fff + ((bits >> 16) & 1)) >> 16
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]

    use super::*;

    #[test]
    fn packing_rounds_to_nearest_even_and_keeps_order() {
        assert_eq!(bf16(1.0), 0x3f80);
        // Halfway between 1 and the next bf16 goes to even; just above it goes up.
        assert_eq!(bf16(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(bf16(f32::from_bits(0x3f80_8001)), 0x3f81);
        assert_eq!(bf16(f32::from_bits(0x3f81_8000)), 0x3f82);
        assert_eq!(bf16(-2.0), 0xc000);
        assert!(f32::from_bits(bf16(f32::NAN) << 16).is_nan());
        assert_eq!(f32::from_bits(bf16(f32::INFINITY) << 16), f32::INFINITY);
        let values: Vec<f32> = (0..6 * 64).map(|i| i as f32 / 2.0 - 90.0).collect();
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let matrix = Matrix::pack(&values, 6, 64, dtype);
            assert_eq!(matrix.words().len(), 8 * matrix.row_words());
            assert_eq!(matrix.bytes(), 6 * 64 * dtype.bytes() as u64);
            let mut row = [0.0; 64];
            for (index, wanted) in values.chunks(64).enumerate() {
                matrix.unpack_row(index, &mut row);
                assert_eq!(row, wanted);
            }
        }
    }
}
