//! The value of `x-relay-warnings`: which fields a translation changed or dropped, bounded and safe for a header.

use http::HeaderValue;
use protocol::{Loss, LossKind};

/// The most bytes of the value.
const MAX_BYTES: usize = 1_024;

/// The losses of a request as one value, such as `dropped=top_k,seed; clamped=temperature`; absent: there are none.
/// What does not fit is counted at the end: `; more=3`.
pub fn value(losses: &[Loss]) -> Option<HeaderValue> {
    if losses.is_empty() {
        return None;
    }
    let mut text = String::new();
    let mut left_out = 0;
    for kind in [LossKind::Dropped, LossKind::Approximated, LossKind::Clamped] {
        let mut lead = if text.is_empty() { format!("{kind}=") } else { format!("; {kind}=") };
        for field in fields(losses, kind) {
            if text.len() + lead.len() + field.len() > MAX_BYTES {
                left_out += 1;
                continue;
            }
            text.push_str(&lead);
            text.push_str(&field);
            lead = ",".to_owned();
        }
    }
    if left_out > 0 {
        text.push_str(&format!("; more={left_out}"));
    }
    (!text.is_empty()).then(|| HeaderValue::from_str(&text).expect("only visible ASCII and spaces were written"))
}

/// The fields of a kind, each once, in the order in which they were met.
fn fields(losses: &[Loss], kind: LossKind) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for loss in losses.iter().filter(|loss| loss.kind == kind) {
        let field = plain(&loss.field);
        if !fields.contains(&field) {
            fields.push(field);
        }
    }
    fields
}

/// A field's name with `_` for all that a header or its grammar cannot hold.
fn plain(field: &str) -> String {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | ';' | '=');
    field.chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(losses: &[Loss]) -> Option<String> {
        value(losses).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn fields_stand_once_behind_what_happened_to_them() {
        let losses = [
            Loss::clamped("temperature", ""),
            Loss::dropped("top_k", ""),
            Loss::dropped("seed", ""),
            Loss::dropped("top_k", "again"),
        ];
        assert_eq!(shown(&losses).as_deref(), Some("dropped=top_k,seed; clamped=temperature"));
        assert_eq!(shown(&[]), None);
    }

    #[test]
    fn what_callers_wrote_cannot_break_the_header() {
        let losses = [Loss::dropped("tools[0].a\r\nx-evil: 1;b=ü", "")];
        assert_eq!(shown(&losses).as_deref(), Some("dropped=tools[0].a__x-evil:_1_b__"));
    }

    #[test]
    fn a_long_list_is_cut_and_the_rest_is_counted() {
        let losses: Vec<Loss> = (0..1_000).map(|n| Loss::dropped(format!("field_{n}"), "")).collect();
        let shown = shown(&losses).unwrap();
        assert!(shown.len() < MAX_BYTES + 16);
        let (fields, more) = shown.rsplit_once("; more=").unwrap();
        assert_eq!(fields.split(',').count() + more.parse::<usize>().unwrap(), 1_000);
    }
}
