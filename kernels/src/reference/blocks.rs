//! Block tables, and blocks of the cache on their way between places. The cache is `[plane, block, words]`: a plane holds the
//! keys or the values of a layer.

/// Applies changes `[row, column, block]` to tables of some width; a row below zero changes nothing.
///
/// # Panics
/// If a place is not in the tables.
pub fn update_tables(tables: &mut [i32], width: usize, changes: &[[i32; 3]]) {
    for [row, column, block] in changes.iter().filter(|change| change[0] >= 0) {
        tables[*row as usize * width + *column as usize] = *block;
    }
}

/// Copies blocks `[from, to]` in all planes; no block is the goal of one pair and stands in another.
///
/// # Panics
/// If a block is not in the cache.
pub fn copy_blocks<T: Copy>(cache: &mut [T], pairs: &[[i32; 2]], words: usize, blocks: usize) {
    for plane in cache.chunks_exact_mut(words * blocks) {
        for [from, to] in pairs {
            let from = *from as usize * words;
            plane.copy_within(from..from + words, *to as usize * words);
        }
    }
}

/// The blocks of a list, `[block of the list, plane, words]`.
///
/// # Panics
/// If a block is not in the cache.
pub fn gather_blocks<T: Copy>(cache: &[T], list: &[i32], words: usize, blocks: usize) -> Vec<T> {
    let planes = || cache.chunks_exact(words * blocks);
    list.iter()
        .flat_map(|block| planes().flat_map(|plane| &plane[*block as usize * words..][..words]))
        .copied()
        .collect()
}

/// Writes what [`gather_blocks`] gave to the blocks of a list.
///
/// # Panics
/// If a block is not in the cache.
pub fn scatter_blocks<T: Copy>(cache: &mut [T], staging: &[T], list: &[i32], words: usize, blocks: usize) {
    let planes = cache.len() / (words * blocks);
    for (at, words_of_block) in staging.chunks_exact(words).enumerate() {
        let (block, plane) = (list[at / planes] as usize, at % planes);
        cache[(plane * blocks + block) * words..][..words].copy_from_slice(words_of_block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_change_where_they_are_told() {
        let mut tables = [0, 1, 2, 3];
        update_tables(&mut tables, 2, &[[1, 0, 9], [-1, 5, 5], [0, 1, 8]]);
        assert_eq!(tables, [0, 8, 9, 3]);
    }

    #[test]
    fn blocks_move_in_all_planes() {
        // Two planes of three blocks of two words.
        let mut cache = [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15];
        copy_blocks(&mut cache, &[[0, 2]], 2, 3);
        assert_eq!(cache, [0, 1, 2, 3, 0, 1, 10, 11, 12, 13, 10, 11]);
        let staging = gather_blocks(&cache, &[1, 2], 2, 3);
        assert_eq!(staging, [2, 3, 12, 13, 0, 1, 10, 11]);
        let mut other = [7; 12];
        scatter_blocks(&mut other, &staging, &[0, 1], 2, 3);
        assert_eq!(other, [2, 3, 0, 1, 7, 7, 12, 13, 10, 11, 7, 7]);
    }
}
