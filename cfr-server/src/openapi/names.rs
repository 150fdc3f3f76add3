//! Gives a name to what the derive macros write out in place, so that a generated client has one type for one thing: the
//! rows of lists, and the variants of what is one of several.

use std::collections::BTreeMap;
use std::mem;

use utoipa::openapi::schema::{ArrayItems, Components, Discriminator, Object, OneOf, Schema};
use utoipa::openapi::{Ref, RefOr};

/// How a page of something is called, before what it is a page of.
const PAGE_OF: &str = "Listing_";

type Named = (String, RefOr<Schema>);

/// Turns what is written out in place into references to schemas with names.
pub(super) fn name_parts(components: &mut Components) {
    let mut found = Vec::new();
    for (name, schema) in &mut components.schemas {
        match schema {
            RefOr::T(Schema::Object(page)) => {
                found.extend(name.strip_prefix(PAGE_OF).and_then(|row| name_rows(row, page)))
            }
            RefOr::T(Schema::OneOf(choice)) => found.extend(name_variants(name, choice)),
            _ => {}
        }
    }
    for (name, schema) in found {
        components.schemas.entry(name).or_insert(schema);
    }
}

/// The rows of a page are what they are anywhere else.
fn name_rows(row: &str, page: &mut Object) -> Option<Named> {
    let RefOr::T(Schema::Array(rows)) = page.properties.get_mut("items")? else { return None };
    let ArrayItems::RefOrSchema(item) = &mut rows.items else { return None };
    Some((row.to_owned(), mem::replace(&mut **item, RefOr::Ref(Ref::from_schema_name(row)))))
}

/// Variants that are told apart by one field are called after what it says, as in `PeriodCalendarMonth`.
fn name_variants(name: &str, choice: &mut OneOf) -> Vec<Named> {
    let Some(tags) = choice.items.iter().map(tag).collect::<Option<Vec<_>>>() else { return Vec::new() };
    let Some((field, _)) = tags.first().cloned() else { return Vec::new() };
    let mut mapping = BTreeMap::new();
    let mut named = Vec::with_capacity(tags.len());
    for (item, (_, word)) in choice.items.iter_mut().zip(tags) {
        let variant = format!("{name}{}", pascal_case(&word));
        let reference = Ref::from_schema_name(&variant);
        mapping.insert(word, reference.ref_location.clone());
        named.push((variant, mem::replace(item, RefOr::Ref(reference))));
    }
    choice.discriminator = Some(Discriminator::with_mapping(field, mapping));
    named
}

/// The field that has only one value, and the value.
fn tag(variant: &RefOr<Schema>) -> Option<(String, String)> {
    let RefOr::T(Schema::Object(object)) = variant else { return None };
    object.properties.iter().find_map(|(name, schema)| match schema {
        RefOr::T(Schema::Object(Object { enum_values: Some(words), .. })) => match words.as_slice() {
            [word] => Some((name.clone(), word.as_str()?.to_owned())),
            _ => None,
        },
        _ => None,
    })
}

fn pascal_case(word: &str) -> String {
    let capital = |part: &str| {
        let mut letters = part.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    };
    word.split('_').map(capital).collect()
}
