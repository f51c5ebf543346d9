//! The public API of the crate, read with `syn` as text: what a program that uses the library can name. It is that of
//! `tests/golden/api.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use quote::ToTokens;
use regex_lite::Regex;
use syn::{Item, UseTree, Visibility};

/// A module's path from the root of the crate. The root is empty.
type Module = Vec<String>;

/// The items of all modules of a crate, tests left out.
struct Api {
    /// The items of each module, without its modules' own items.
    modules: BTreeMap<Module, Vec<Item>>,
}

/// What a path means.
enum Target<'a> {
    /// A module of this crate.
    Module(Module),
    /// An item of this crate.
    Item(&'a Item),
    /// Something of another crate.
    Foreign,
}

impl Api {
    /// Reads the crate whose root is `lib.rs` in a folder.
    fn read(folder: &Path) -> Self {
        let mut api = Self { modules: BTreeMap::new() };
        let root = syn::parse_file(&std::fs::read_to_string(folder.join("lib.rs")).unwrap()).unwrap();
        api.add(Vec::new(), root.items, folder);
        api
    }

    /// Adds a module, whose modules lie in `folder`.
    fn add(&mut self, module: Module, items: Vec<Item>, folder: &Path) {
        let items: Vec<Item> =
            items.into_iter().flat_map(declared).filter(|item| !is_hidden(attributes(item))).collect();
        for item in &items {
            let Item::Mod(child) = item else { continue };
            let name = child.ident.to_string();
            let below = folder.join(&name);
            let items = if let Some((_, items)) = &child.content {
                items.clone()
            } else {
                let files = [folder.join(format!("{name}.rs")), below.join("mod.rs")];
                let file = files.iter().find(|file| file.is_file()).expect("a module has a file");
                syn::parse_file(&std::fs::read_to_string(file).unwrap()).unwrap().items
            };
            self.add([module.as_slice(), &[name]].concat(), items, &below);
        }
        self.modules.insert(module, items);
    }

    /// One line for each public item, sorted, with the path under which it is public.
    fn lines(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        self.list_module(&Vec::new(), "gpu_gan", &mut lines);
        lines
    }

    fn list_module(&self, module: &Module, shown: &str, lines: &mut BTreeSet<String>) {
        for item in &self.modules[module] {
            match item {
                Item::Mod(child) if is_public(&child.vis) => {
                    let name = child.ident.to_string();
                    let below = [module.as_slice(), std::slice::from_ref(&name)].concat();
                    self.list_module(&below, &format!("{shown}::{name}"), lines);
                }
                Item::Use(exported) if is_public(&exported.vis) => {
                    for (name, path) in leaves(&exported.tree, &[]) {
                        match self.resolve(module, &path) {
                            Target::Module(target) => self.list_module(&target, &format!("{shown}::{name}"), lines),
                            Target::Item(item) => self.list_item(item, &format!("{shown}::{name}"), lines),
                            Target::Foreign => {
                                lines.insert(format!("{shown}::{name} = {}", path.join("::")));
                            }
                        }
                    }
                }
                _ if visibility(item).is_some_and(is_public) || matches!(item, Item::Macro(_)) => {
                    if let Some(name) = ident(item) {
                        self.list_item(item, &format!("{shown}::{name}"), lines);
                    }
                }
                _ => {}
            }
        }
    }

    /// What a path means in a module.
    fn resolve(&self, from: &Module, path: &[String]) -> Target<'_> {
        let mut module = from.clone();
        let mut rest = path;
        while let Some(first) = rest.first() {
            match first.as_str() {
                "crate" => module.clear(),
                "self" => {}
                "super" => drop(module.pop()),
                _ => break,
            }
            rest = &rest[1..];
        }
        while let [name, after @ ..] = rest {
            let child = [module.as_slice(), std::slice::from_ref(name)].concat();
            if self.modules.contains_key(&child) {
                (module, rest) = (child, after);
                continue;
            }
            let items = &self.modules[&module];
            if let Some(item) = items.iter().find(|item| ident(item).is_some_and(|known| known == *name)) {
                return Target::Item(item);
            }
            let uses = items.iter().filter_map(|item| if let Item::Use(used) = item { Some(used) } else { None });
            let meant = uses.flat_map(|used| leaves(&used.tree, &[])).find(|(known, _)| known == name);
            return match meant {
                Some((_, meant)) if meant != path => self.resolve(&module, &[&meant[..], after].concat()),
                _ => Target::Foreign,
            };
        }
        Target::Module(module)
    }

    fn list_item(&self, item: &Item, shown: &str, lines: &mut BTreeSet<String>) {
        let mut line = |text: &str| lines.insert(format!("{shown}: {text}"));
        match item {
            Item::Fn(function) => drop(line(&text_of(&function.sig))),
            Item::Const(constant) => drop(line(&format!("const {}", text_of(&constant.ty)))),
            Item::Static(constant) => drop(line(&format!("static {}", text_of(&constant.ty)))),
            Item::Type(alias) => drop(line(&format!("type{} = {}", text_of(&alias.generics), text_of(&alias.ty)))),
            Item::Struct(structure) => {
                let public: Vec<_> = structure.fields.iter().filter(|field| is_public(&field.vis)).collect();
                let kind = if public.len() == structure.fields.len() { "struct" } else { "struct with private fields" };
                line(&format!("{kind}{}", text_of(&structure.generics)));
                for (number, field) in public.into_iter().enumerate() {
                    let name = field.ident.as_ref().map_or(number.to_string(), ToString::to_string);
                    line(&format!("field {name}: {}", text_of(&field.ty)));
                }
            }
            Item::Enum(enumeration) => {
                line(&format!("enum{}", text_of(&enumeration.generics)));
                for mut variant in enumeration.variants.iter().cloned() {
                    variant.attrs.clear();
                    variant.fields.iter_mut().for_each(|field| field.attrs.clear());
                    line(&format!("variant {}", text_of(&variant)));
                }
            }
            Item::Trait(definition) => {
                line(&format!("trait{}", text_of(&definition.generics)));
                for item in &definition.items {
                    if let syn::TraitItem::Fn(function) = item {
                        let provided = if function.default.is_some() { "provided " } else { "" };
                        line(&format!("{provided}{}", text_of(&function.sig)));
                    }
                }
            }
            Item::Macro(declaration) => {
                let docs = Regex::new(r##"# \[doc = r?#*"(?:[^"\\]|\\.)*"#*\]"##).expect("a regular expression");
                let tokens = declaration.mac.tokens.to_string();
                for variant in spaced(&docs.replace_all(&tokens, " ")).split_inclusive('}') {
                    line(&format!("declared {}", variant.trim()));
                }
            }
            _ => {}
        }
        for attribute in attributes(item)
            .iter()
            .filter(|attribute| ["derive", "non_exhaustive"].iter().any(|name| attribute.path().is_ident(name)))
        {
            line(&text_of(&attribute.meta));
        }
        if let Some(name) = ident(item) {
            self.list_implementations(&name, shown, lines);
        }
    }

    /// The public functions and the traits of a type. Names of types are unique in the crate.
    fn list_implementations(&self, name: &str, shown: &str, lines: &mut BTreeSet<String>) {
        let of_type = |of: &syn::ItemImpl| match &*of.self_ty {
            syn::Type::Path(path) => path.path.segments.last().is_some_and(|segment| segment.ident == name),
            _ => false,
        };
        for item in self.modules.values().flatten() {
            let Item::Impl(of) = item else { continue };
            if !of_type(of) {
                continue;
            }
            let header = format!("impl{}", text_of(&of.generics));
            if let Some((implemented, _)) = &of.trait_ {
                lines.insert(format!("{shown}: {header} {} for {}", text_of(implemented), text_of(&of.self_ty)));
                continue;
            }
            for item in &of.items {
                match item {
                    syn::ImplItem::Fn(function) if is_public(&function.vis) => {
                        lines.insert(format!("{shown}: {}", text_of(&function.sig)));
                    }
                    syn::ImplItem::Const(constant) if is_public(&constant.vis) => {
                        lines.insert(format!("{shown}: const {}: {}", constant.ident, text_of(&constant.ty)));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The item, or the items in a call of the macro `options`, which passes them on.
fn declared(item: Item) -> Vec<Item> {
    match item {
        Item::Macro(call) if call.mac.path.is_ident("options") => {
            syn::parse2::<syn::File>(call.mac.tokens).expect("the macro is given items").items
        }
        item => vec![item],
    }
}

/// The names that a `use` binds, with the paths that they mean.
fn leaves(tree: &UseTree, prefix: &[String]) -> Vec<(String, Vec<String>)> {
    let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
    match tree {
        UseTree::Path(path) => leaves(&path.tree, &with(&path.ident)),
        UseTree::Group(group) => group.items.iter().flat_map(|tree| leaves(tree, prefix)).collect(),
        UseTree::Name(name) if name.ident == "self" => {
            prefix.last().map(|name| (name.clone(), prefix.to_vec())).into_iter().collect()
        }
        UseTree::Name(name) => vec![(name.ident.to_string(), with(&name.ident))],
        UseTree::Rename(rename) => vec![(rename.rename.to_string(), with(&rename.ident))],
        UseTree::Glob(_) => vec![("*".into(), prefix.to_vec())],
    }
}

fn attributes(item: &Item) -> &[syn::Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether an item is for tests, or left out of the documentation.
fn is_hidden(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = text_of(&attribute.meta);
        text == "cfg(test)" || text == "doc(hidden)"
    })
}

fn visibility(item: &Item) -> Option<&Visibility> {
    match item {
        Item::Const(item) => Some(&item.vis),
        Item::Enum(item) => Some(&item.vis),
        Item::Fn(item) => Some(&item.vis),
        Item::Static(item) => Some(&item.vis),
        Item::Struct(item) => Some(&item.vis),
        Item::Trait(item) => Some(&item.vis),
        Item::Type(item) => Some(&item.vis),
        _ => None,
    }
}

/// The name of an item. The macro `operations` declares the operations.
fn ident(item: &Item) -> Option<String> {
    match item {
        Item::Const(item) => Some(item.ident.to_string()),
        Item::Enum(item) => Some(item.ident.to_string()),
        Item::Fn(item) => Some(item.sig.ident.to_string()),
        Item::Static(item) => Some(item.ident.to_string()),
        Item::Struct(item) => Some(item.ident.to_string()),
        Item::Trait(item) => Some(item.ident.to_string()),
        Item::Type(item) => Some(item.ident.to_string()),
        Item::Macro(item) if item.mac.path.is_ident("operations") => Some("Op".into()),
        _ => None,
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn text_of(tokens: &impl ToTokens) -> String {
    spaced(&tokens.to_token_stream().to_string())
}

/// Tokens with the usual spaces.
fn spaced(tokens: &str) -> String {
    let mut text = tokens.split_whitespace().collect::<Vec<_>>().join(" ");
    for (wide, narrow) in
        [(" ::", "::"), (":: ", "::"), (" <", "<"), ("< ", "<"), (" >", ">"), (" (", "("), ("( ", "("), (" )", ")")]
    {
        text = text.replace(wide, narrow);
    }
    for (wide, narrow) in [
        ("[ ", "["),
        (" ]", "]"),
        (" ,", ","),
        (" ;", ";"),
        (" :", ":"),
        ("& ", "&"),
        ("->(", "-> ("),
        (",)", ")"),
        (",>", ">"),
    ] {
        text = text.replace(wide, narrow);
    }
    text.replace(")->", ") ->").replace(": :", "::")
}

/// With `GPU_GAN_UPDATE_API=1` the test writes the file.
#[test]
fn the_public_api_is_the_one_that_was_reviewed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("tests/golden/api.txt");
    let lines = Api::read(&root.join("src")).lines();
    if std::env::var_os("GPU_GAN_UPDATE_API").is_some() {
        let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let reviewed = std::fs::read_to_string(&path).unwrap();
    let reviewed: BTreeSet<String> = reviewed.lines().map(String::from).collect();
    let [added, removed] = [lines.difference(&reviewed), reviewed.difference(&lines)]
        .map(|lines| lines.cloned().collect::<Vec<_>>().join("\n"));
    assert!(
        added.is_empty() && removed.is_empty(),
        "the public API changed. If that is meant, update the list and review it: \
         GPU_GAN_UPDATE_API=1 cargo test --release --locked --test api\n\
         added:\n{added}\n\nremoved:\n{removed}"
    );
}

#[test]
fn the_list_has_items_of_every_kind_under_their_public_paths_and_no_private_ones() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "lib.rs",
        "mod inner;\npub mod outer;\npub use inner::{Shown, Trait as Renamed};\n#[doc(hidden)] pub mod unstable {}",
    );
    write(
        "inner.rs",
        "#[derive(Clone)] pub struct Shown<T> { pub a: T, b: u8 }\n\
         impl<T> Shown<T> { pub fn get(&self) -> &T { &self.a } fn hidden() {} }\n\
         impl Trait for Shown<u8> {}\n\
         pub trait Trait { fn given(&self) {} }\n\
         pub struct Unexported;",
    );
    write(
        "outer.rs",
        "pub const N: usize = 3;\npub enum E { A, B(u8) }\n#[cfg(test)] mod tests { pub fn f() {} }\nfn private() {}",
    );
    let lines: Vec<String> = Api::read(folder.path()).lines().into_iter().collect();
    assert_eq!(
        lines,
        [
            "gpu_gan::Renamed: provided fn given(&self)",
            "gpu_gan::Renamed: trait",
            "gpu_gan::Shown: derive(Clone)",
            "gpu_gan::Shown: field a: T",
            "gpu_gan::Shown: fn get(&self) -> &T",
            "gpu_gan::Shown: impl Trait for Shown<u8>",
            "gpu_gan::Shown: struct with private fields<T>",
            "gpu_gan::outer::E: enum",
            "gpu_gan::outer::E: variant A",
            "gpu_gan::outer::E: variant B(u8)",
            "gpu_gan::outer::N: const usize",
        ]
    );
}
