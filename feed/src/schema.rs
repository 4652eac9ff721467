//! Whether two sides understand each other's rows: a form is a number, and grows when a field of a row changes its meaning.
//! Who cannot read a form must not use it: it would take one thing for another.

use crate::{server::Denied, wire::Hello};

/// The form of rows that this build writes, and the newest that it reads.
pub const SCHEMA: u32 = 1;

/// The oldest form of rows that this build reads.
pub const OLDEST: u32 = 1;

/// Errs where a data plane reads no rows as new as those that are written here.
pub(crate) fn written_for(hello: &Hello) -> Result<(), Denied> {
    if hello.schema >= SCHEMA {
        return Ok(());
    }
    Err(Denied::Incompatible(format!(
        "rows have the form {SCHEMA} here, and data plane `{}` of version `{}` reads none newer than {}: it goes on with what it \
         has; upgrade it, or go back with the operator",
        hello.pod, hello.build, hello.schema
    )))
}

/// Errs where rows of this form cannot be read.
pub(crate) fn read_here(form: u32) -> Result<(), String> {
    if (OLDEST..=SCHEMA).contains(&form) {
        return Ok(());
    }
    Err(format!("rows have the form {form}, and this data plane reads {OLDEST} to {SCHEMA}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_plane_gets_rows_that_it_can_read() {
        let hello = |schema| Hello { pod: "pod-1".into(), build: "0.9.0".into(), schema, ..Hello::default() };
        assert_eq!(written_for(&hello(SCHEMA)), Ok(()));
        // It reads older ones too, or says by itself that it does not.
        assert_eq!(written_for(&hello(SCHEMA + 1)), Ok(()));
        let Err(Denied::Incompatible(words)) = written_for(&hello(SCHEMA - 1)) else { panic!("it cannot read them") };
        assert!(words.contains("data plane `pod-1` of version `0.9.0` reads none newer than 0"), "{words}");
    }

    #[test]
    fn rows_of_another_form_are_not_read() {
        assert_eq!(read_here(SCHEMA), Ok(()));
        assert_eq!(read_here(SCHEMA + 1), Err("rows have the form 2, and this data plane reads 1 to 1".to_owned()));
        assert!(read_here(OLDEST - 1).is_err());
    }
}
