//! A build without polars does everything else, and says what it cannot do.

use crate::cli::home::Home;

#[test]
fn commands_that_need_polars_say_so() {
    let home = Home::small();
    for (command, what) in [
        ("trace fit small.yaml", "`trace fit` of requests"),
        ("trace stats small.yaml --by class", "`trace stats --by`"),
    ] {
        let told = home.refused(command.split_whitespace());
        assert!(told.contains(&format!("{what} needs polars")) && told.contains("feature `frames`"), "{told}");
    }
    home.overbook("trace stats small.yaml").ends(0);
    home.overbook("trace generate small.yaml --out t.parquet").ends(0);
}
