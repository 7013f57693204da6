//! Holds documents against the schemas in `docs/schema`, in the words of JSON Schema that those use.
//! A word that is not known here fails: nothing is skipped.

use std::path::Path;

use serde_json::Value;

/// Panics when `document` is not what the schema of that name says.
pub(crate) fn check(name: &str, document: &Value) {
    let file = format!("{name}.json");
    if let Err(why) = fits(&file, &load(&file), document) {
        panic!("{name}: {why}\n{document:#}");
    }
}

fn load(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn fits(file: &str, schema: &Value, value: &Value) -> Result<(), String> {
    for (word, wanted) in schema.as_object().ok_or("a schema is an object")? {
        let held = match word.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let (target, schema) = resolve(file, wanted.as_str().unwrap_or_default());
                fits(&target, &schema, value)?;
                true
            }
            "type" => one_or_many(wanted).iter().any(|kind| is_of(kind, value)),
            "enum" => wanted.as_array().is_some_and(|all| all.contains(value)),
            "const" => wanted == value,
            "minimum" => value.as_f64().is_none_or(|n| n >= wanted.as_f64().unwrap_or(0.0)),
            "pattern" => value.as_str().is_none_or(|text| has_form(wanted, text)),
            "anyOf" => wanted
                .as_array()
                .is_some_and(|all| all.iter().any(|schema| fits(file, schema, value).is_ok())),
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    fits(file, wanted, item).map_err(|why| format!("[{at}]{why}"))?;
                }
                true
            }
            "required" => {
                let names = wanted.as_array().into_iter().flatten().filter_map(Value::as_str);
                for name in names {
                    if value.is_object() && value.get(name).is_none() {
                        return Err(format!(".{name} is missing"));
                    }
                }
                true
            }
            "properties" => {
                for (name, schema) in wanted.as_object().into_iter().flatten() {
                    if let Some(field) = value.get(name) {
                        fits(file, schema, field).map_err(|why| format!(".{name}{why}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                others(file, schema, wanted, value)?;
                true
            }
            unknown => panic!("{file} uses `{unknown}`, which this check does not know"),
        };
        if !held {
            return Err(format!(": {value} is not {word} {wanted}"));
        }
    }
    Ok(())
}

/// The fields that `properties` does not name.
fn others(file: &str, schema: &Value, wanted: &Value, value: &Value) -> Result<(), String> {
    for (name, field) in value.as_object().into_iter().flatten() {
        if schema["properties"].get(name).is_some() {
            continue;
        }
        match wanted {
            Value::Bool(false) => return Err(format!(".{name} is not in the schema")),
            wanted => fits(file, wanted, field).map_err(|why| format!(".{name}{why}"))?,
        }
    }
    Ok(())
}

fn resolve(file: &str, reference: &str) -> (String, Value) {
    let (target, pointer) = reference.split_once('#').unwrap_or((reference, ""));
    let target = if target.is_empty() { file } else { target };
    let schema = load(target).pointer(pointer).cloned();
    (target.to_owned(), schema.unwrap_or_else(|| panic!("{file} refers to {reference}")))
}

fn one_or_many(kinds: &Value) -> Vec<&str> {
    match kinds {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        unknown => panic!("`{unknown}` is no type"),
    }
}

/// The two patterns in use, read by hand.
fn has_form(pattern: &Value, text: &str) -> bool {
    let is_hex = |text: &str| {
        text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    match pattern.as_str() {
        Some("^[0-9a-f]{64}$") => is_hex(text),
        Some(time) if time.contains("T[0-9:.]+Z$") => {
            text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T'
        }
        other => panic!("the pattern {other:?} is not known here"),
    }
}

#[test]
fn a_document_with_a_field_too_many_or_too_few_does_not_fit() {
    let schema = load("version.json");
    let of = |text: &str| fits("version.json", &schema, &serde_json::from_str(text).unwrap());
    assert_eq!(of(r#"{"program":"alidade","version":"1","repository_versions":[1]}"#), Ok(()));
    for bad in [
        r#"{"program":"alidade","version":"1"}"#,
        r#"{"program":"alidade","version":"1","repository_versions":[1],"more":1}"#,
        r#"{"program":"other","version":"1","repository_versions":[1]}"#,
        r#"{"program":"alidade","version":"1","repository_versions":["1"]}"#,
        r#"{"program":"alidade","version":1,"repository_versions":[1]}"#,
    ] {
        assert!(of(bad).is_err(), "{bad}");
    }
}
