//! Rows of the embedding table.

/// The rows of a table `[token, width]` for some inputs; below zero an input is `-1 - i` and stands for `drawn[i]`.
///
/// # Panics
/// If an input, or what it stands for, is not in its table.
pub fn embed<T: Copy>(table: &[T], width: usize, inputs: &[i32], drawn: &[i32]) -> Vec<T> {
    let token = |input: i32| if input >= 0 { input } else { drawn[(-1 - input) as usize] };
    inputs.iter().flat_map(|input| &table[token(*input) as usize * width..][..width]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_were_drawn_are_looked_up() {
        let table = [0, 1, 10, 11, 20, 21];
        assert_eq!(embed(&table, 2, &[2, -1, 0, -2], &[1, 2]), [20, 21, 10, 11, 0, 1, 20, 21]);
    }
}
