//! Puts a sealed credential into a manifest as its author wrote it: the lines of `spec.source` are replaced and no other.
//! Whatever the text looks like, what comes out is read again and has to say what is meant.

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use table::{ObjectRef, Sealed};

use crate::manifests::{Document, documents};

/// A HostKey in a text.
#[derive(Debug)]
pub(super) struct Found {
    /// Which document it is, from 0.
    at: usize,
    pub(super) host_key: ObjectRef,
    pub(super) host: ObjectRef,
    /// Its sealed credential, where it has one.
    pub(super) sealed: Option<Sealed>,
}

/// The HostKeys of a text. `namespace` is that of those which name none.
pub(super) fn host_keys(text: &str, namespace: Option<&str>) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for (at, document) in read(text)?.iter().enumerate() {
        let value = &document.value;
        let is_ours =
            value["apiVersion"].as_str().is_some_and(|version| version.split('/').next() == Some(crds::GROUP));
        if is_ours && value["kind"] == "HostKey" {
            found.push(host_key(at, value, namespace).with_context(|| format!("line {}", document.line("")))?);
        }
        let items = value["items"].as_array().map_or(&[][..], Vec::as_slice);
        ensure!(
            items.iter().all(|item| item["kind"] != "HostKey"),
            "line {}: a HostKey stands in a list: write it as a document of its own",
            document.line("items")
        );
    }
    Ok(found)
}

fn read(text: &str) -> anyhow::Result<Vec<Document>> {
    let document = |read: Result<Document, crate::manifests::SyntaxError>| {
        read.map_err(|error| anyhow::anyhow!("line {}: {}", error.line, error.message))
    };
    documents(text).into_iter().map(document).collect()
}

fn host_key(at: usize, value: &Value, namespace: Option<&str>) -> anyhow::Result<Found> {
    let name = value["metadata"]["name"].as_str().context("metadata.name: is required")?;
    let namespace = value["metadata"]["namespace"].as_str().or(namespace);
    let namespace = namespace.with_context(|| {
        format!(
            "HostKey `{name}` names no namespace, and what is sealed is bound to one: write it there or as --namespace"
        )
    })?;
    let host = &value["spec"]["hostRef"];
    let host_name =
        host["name"].as_str().with_context(|| format!("HostKey `{name}`: spec.hostRef.name: is required"))?;
    let host = ObjectRef::new(host["namespace"].as_str().unwrap_or(namespace), host_name);
    let encrypted = &value["spec"]["source"]["encrypted"];
    let part = |field: &str| encrypted[field].as_str().map(str::to_owned);
    let sealed = || {
        Some(Sealed {
            host: host.clone(),
            key_id: part("keyID")?,
            wrapped_key: part("wrappedKey")?,
            nonce: part("nonce")?,
            ciphertext: part("ciphertext")?,
        })
    };
    let sealed = sealed();
    ensure!(
        encrypted.is_null() || sealed.is_some(),
        "HostKey `{name}`: spec.source.encrypted: keyID, wrappedKey, nonce and ciphertext are required"
    );
    Ok(Found { at, host_key: ObjectRef::new(namespace, name), host, sealed })
}

/// The text with the credential as the source of a HostKey that was found in it.
pub(super) fn with_source(text: &str, of: &Found, sealed: &Sealed) -> anyhow::Result<String> {
    let before = read(text)?;
    let (document, name) = (&before[of.at], &of.host_key.name);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let has_source = !document.value["spec"]["source"].is_null();
    let field = if has_source { "source" } else { "hostRef" };
    let line = document.line(&format!("spec.{field}"));
    let start = usize::try_from(line).context("the file is too long")? - 1;
    let first = lines.get(start).copied().unwrap_or_default();
    let indent = &first[..first.len() - first.trim_start_matches(' ').len()];
    let is_own_line = !indent.is_empty() && first[indent.len()..].starts_with(&format!("{field}:"));
    ensure!(is_own_line, "line {line}: `spec.{field}` of HostKey `{name}` is not on a line of its own: write it so");
    let end = if has_source { end_of_block(&lines, start, indent.len()) } else { start };
    let line_end = if first.ends_with("\r\n") { "\r\n" } else { "\n" };
    let written =
        [&lines[..start].concat(), source(indent, line_end, sealed).as_str(), &lines[end..].concat()].concat();

    let mut expected: Vec<Value> = before.into_iter().map(|document| document.value).collect();
    expected[of.at]["spec"]["source"] = as_json(sealed);
    let after: Vec<Value> = read(&written).unwrap_or_default().into_iter().map(|document| document.value).collect();
    if after != expected {
        bail!(
            "line {line}: `spec.{field}` of HostKey `{name}` cannot be replaced: write it in block style, one field a line"
        );
    }
    Ok(written)
}

/// The line after a block: what stands deeper than its first line belongs to it, and blank lines at its end do not.
fn end_of_block(lines: &[&str], start: usize, indent: usize) -> usize {
    let mut end = start + 1;
    for (at, line) in lines.iter().enumerate().skip(start + 1) {
        let depth = line.len() - line.trim_start_matches(' ').len();
        if line.trim().is_empty() {
            continue;
        }
        if depth <= indent {
            break;
        }
        end = at + 1;
    }
    end
}

/// `source` as lines. Values are quoted: some of them could be read as numbers.
pub(super) fn source(indent: &str, line_end: &str, sealed: &Sealed) -> String {
    let Sealed { key_id, wrapped_key, nonce, ciphertext, .. } = sealed;
    let lines = [
        "source:".to_owned(),
        "  encrypted:".to_owned(),
        format!("    keyID: \"{key_id}\""),
        format!("    wrappedKey: \"{wrapped_key}\""),
        format!("    nonce: \"{nonce}\""),
        format!("    ciphertext: \"{ciphertext}\""),
    ];
    lines.iter().map(|line| format!("{indent}{line}{line_end}")).collect()
}

fn as_json(sealed: &Sealed) -> Value {
    let Sealed { key_id, wrapped_key, nonce, ciphertext, .. } = sealed;
    json!({"encrypted": {"keyID": key_id, "wrappedKey": wrapped_key, "nonce": nonce, "ciphertext": ciphertext}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Sealed {
        Sealed {
            host: ObjectRef::new("team", "h"),
            key_id: "2026".into(),
            wrapped_key: "W".into(),
            nonce: "1234".into(),
            ciphertext: "C=".into(),
        }
    }

    const SEALED: &str = "  source:\n    encrypted:\n      keyID: \"2026\"\n      wrappedKey: \"W\"\n      nonce: \"1234\"\n      \
                          ciphertext: \"C=\"\n";

    fn manifest(spec: &str) -> String {
        format!(
            "# keys of team\napiVersion: v1\nkind: Namespace\nmetadata: {{name: team}}\n---\napiVersion: \
             llmrelay.io/v1alpha1\nkind: HostKey\nmetadata: {{name: k, namespace: team}}\nspec:\n{spec}"
        )
    }

    fn patched(text: &str) -> anyhow::Result<String> {
        let found = host_keys(text, None)?;
        with_source(text, &found[0], &sealed())
    }

    #[test]
    fn only_the_lines_of_the_source_change() {
        let cases = [
            ("  hostRef: {name: h}\n  source: {env: {name: A}}\n", "  hostRef: {name: h}\nSEALED"),
            (
                "  source:\n    # of the account\n    env:\n      name: A\n\n  # how much\n  weight: 5\n  hostRef: {name: h}\n",
                "SEALED\n  # how much\n  weight: 5\n  hostRef: {name: h}\n",
            ),
            ("  weight: 5\n  hostRef: {name: h}\n", "  weight: 5\nSEALED  hostRef: {name: h}\n"),
            (
                "  hostRef:\n    name: h\n  source:\n    env: {name: A}\n---\na: 1\n",
                "  hostRef:\n    name: h\nSEALED---\na: 1\n",
            ),
        ];
        for (before, after) in cases {
            assert_eq!(patched(&manifest(before)).unwrap(), manifest(&after.replace("SEALED", SEALED)));
        }
        let windows = manifest("  hostRef: {name: h}\n  source: {env: {name: A}}\n").replace('\n', "\r\n");
        let expected = manifest(&format!("  hostRef: {{name: h}}\n{SEALED}")).replace('\n', "\r\n");
        assert_eq!(patched(&windows).unwrap(), expected);
    }

    #[test]
    fn a_source_that_cannot_be_replaced_by_lines_is_refused_and_named() {
        let flow = "apiVersion: llmrelay.io/v1alpha1\nkind: HostKey\nmetadata: {name: k, namespace: team}\nspec: {hostRef: \
                    {name: h}, source: {env: {name: A}}}\n";
        assert!(patched(flow).unwrap_err().to_string().contains("line 4: `spec.source` of HostKey `k`"));
        let braces = manifest("  hostRef: {name: h}\n  source: {\n    env: {name: A}\n  }\n");
        assert!(patched(&braces).unwrap_err().to_string().contains("block style"));
    }

    #[test]
    fn a_host_key_says_for_whom_it_is_sealed() {
        let text = manifest("  hostRef: {name: h, namespace: platform}\n");
        let found = &host_keys(&text, None).unwrap()[0];
        assert_eq!((found.host_key.to_string(), found.host.to_string()), ("team/k".into(), "platform/h".into()));
        let nowhere = text.replace(", namespace: team", "");
        let error = format!("{:#}", host_keys(&nowhere, None).unwrap_err());
        assert!(error.starts_with("line 6: HostKey `k` names no namespace"), "{error}");
        assert_eq!(host_keys(&nowhere, Some("other")).unwrap()[0].host_key.to_string(), "other/k");
    }
}
