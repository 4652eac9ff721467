//! JSON as it is written, with expressions in it: `json!({"type": "text", "text": text})`.

/// A [`super::Json`]. What is no literal goes in by `Json::from`.
macro_rules! json {
    (null) => { $crate::json::Json::Null };
    ({}) => { $crate::json::Json::Object($crate::json::Object::default()) };
    ({ $($fields:tt)* }) => {{
        let mut object = $crate::json::Object::default();
        $crate::json::fields!(object, $($fields)*);
        $crate::json::Json::Object(object)
    }};
    ([ $($items:tt)* ]) => { $crate::json::Json::Array($crate::json::items!([] $($items)*)) };
    ($value:expr) => { $crate::json::Json::from($value) };
}

macro_rules! fields {
    ($object:ident,) => {};
    ($object:ident, $name:tt : null $(, $($rest:tt)*)?) => {
        $object.push($name, $crate::json::Json::Null);
        $crate::json::fields!($object, $($($rest)*)?);
    };
    ($object:ident, $name:tt : { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $object.push($name, $crate::json::json!({ $($inner)* }));
        $crate::json::fields!($object, $($($rest)*)?);
    };
    ($object:ident, $name:tt : [ $($inner:tt)* ] $(, $($rest:tt)*)?) => {
        $object.push($name, $crate::json::json!([ $($inner)* ]));
        $crate::json::fields!($object, $($($rest)*)?);
    };
    ($object:ident, $name:tt : $value:expr $(, $($rest:tt)*)?) => {
        $object.push($name, $value);
        $crate::json::fields!($object, $($($rest)*)?);
    };
}

macro_rules! items {
    ([$($done:expr,)*]) => { vec![$($done,)*] };
    ([$($done:expr,)*] { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $crate::json::items!([$($done,)* $crate::json::json!({ $($inner)* }),] $($($rest)*)?)
    };
    ([$($done:expr,)*] $value:expr $(, $($rest:tt)*)?) => {
        $crate::json::items!([$($done,)* $crate::json::Json::from($value),] $($($rest)*)?)
    };
}

pub(crate) use {fields, items, json};
