//! What Rust files use and define, read with `syn`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// A module's path from the root of the crate: `["net", "layer"]`. The root is empty.
type Module = Vec<String>;

/// A file of the crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct File(Module);

impl File {
    /// The room that the file is in: the first part of its path, or `lib` for the root.
    pub(crate) fn room(&self) -> &str {
        self.0.first().map_or("lib", String::as_str)
    }

    /// The file's name, without its ending: `net/layer`.
    pub(crate) fn path(&self) -> String {
        if self.0.is_empty() { "lib".into() } else { self.0.join("/") }
    }

    fn is_above(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

/// One path in a file, with the module it stands in.
struct Mention {
    from: Module,
    path: Vec<String>,
    in_test: bool,
    /// The features without which the mention is not compiled.
    features: BTreeSet<String>,
}

/// All files of a crate.
pub(crate) struct Crate {
    /// Each file with the paths in it.
    mentions: BTreeMap<File, Vec<Mention>>,
    /// What `use` names in each module: the name there, and the path it stands for.
    names: BTreeMap<Module, BTreeMap<String, Vec<String>>>,
    /// Each type's name with the files that define it, tests left out.
    types: BTreeMap<String, Vec<String>>,
    /// The features that the declaration of a module asks for.
    features: BTreeMap<Module, BTreeSet<String>>,
}

/// The end of the name of a file that takes the place of another one in a build without its feature.
const DISABLED: &str = "_disabled";

impl Crate {
    /// Reads all files below a `src` folder.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut code = Self {
            mentions: BTreeMap::new(),
            names: BTreeMap::new(),
            types: BTreeMap::new(),
            features: BTreeMap::new(),
        };
        for path in rust_files(folder) {
            let text = std::fs::read_to_string(&path).unwrap();
            code.add(module_of(path.strip_prefix(folder).unwrap()), &text);
        }
        assert!(!code.mentions.is_empty(), "there is no Rust file in {}", folder.display());
        code
    }

    fn add(&mut self, module: Module, text: &str) {
        let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{module:?}: {error}"));
        let in_test = module.last().is_some_and(|name| name == "tests") || module.iter().any(|name| name == "tests");
        let file = File(module.clone());
        let is_disabled = module.last().is_some_and(|name| name.ends_with(DISABLED));
        let mut reader = Reader {
            module,
            in_test,
            mentions: Vec::new(),
            names: Vec::new(),
            types: Vec::new(),
            features: BTreeSet::new(),
            features_of_modules: Vec::new(),
        };
        reader.visit_file(&syntax);
        if is_disabled {
            reader.types.clear(); // they are those of the file that it stands for
        }
        self.features.extend(reader.features_of_modules);
        for (module, name, path) in reader.names {
            self.names.entry(module).or_default().insert(name, path);
        }
        for name in reader.types {
            self.types.entry(name).or_default().push(file.path());
        }
        self.mentions.insert(file, reader.mentions);
    }

    /// Each file with the files it uses, tests included.
    pub(crate) fn uses_with_tests(&self) -> BTreeSet<(&File, File)> {
        self.uses(true)
    }

    /// Each type's name with the files that define it, tests left out.
    pub(crate) fn types(&self) -> BTreeMap<String, Vec<String>> {
        self.types.clone()
    }

    /// The files that name one of `crates` where neither the item nor the declaration of a module above it asks for one of `features`. Tests
    /// and the program, which has its features in `Cargo.toml`, are left out.
    pub(crate) fn names_without(&self, crates: &BTreeSet<String>, features: &BTreeSet<String>) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        for (file, mentions) in self.mentions.iter().filter(|(file, _)| file.room() != "main") {
            for mention in mentions.iter().filter(|mention| !mention.in_test) {
                let names = mention.path.first().is_some_and(|first| crates.contains(first));
                let above = (0..=mention.from.len()).filter_map(|depth| self.features.get(&mention.from[..depth]));
                let has = above.flatten().chain(&mention.features).any(|feature| features.contains(feature));
                if names && !has {
                    files.insert(format!("{} names {}", file.path(), mention.path[0]));
                }
            }
        }
        files
    }

    fn uses(&self, tests: bool) -> BTreeSet<(&File, File)> {
        let mut uses = BTreeSet::new();
        for (file, mentions) in &self.mentions {
            for mention in mentions.iter().filter(|mention| tests || !mention.in_test) {
                if let Some(used) = self.file_of(&mention.from, &mention.path, 0) {
                    uses.insert((file, used));
                }
            }
        }
        uses
    }

    /// The file of this crate that defines what a path means in a module; none for other crates and the standard library.
    fn file_of(&self, from: &Module, path: &[String], depth: usize) -> Option<File> {
        let is_module = |module: &Module| self.mentions.contains_key(&File(module.clone()));
        let mut module = from.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" | "gpu_gan" => (module, rest) = (Module::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {}
            first => {
                // A name that means nothing here is another crate, a local name or one of the standard library.
                let child = [from.as_slice(), &[first.to_owned()]].concat();
                let named = self.names.get(from).is_some_and(|names| names.contains_key(first));
                if !is_module(&child) && !named {
                    return None;
                }
            }
        }
        while rest.first().is_some_and(|part| part == "super") {
            module.pop()?;
            rest = &rest[1..];
        }
        while let Some(part) = rest.first() {
            let child = [module.as_slice(), std::slice::from_ref(part)].concat();
            if is_module(&child) {
                (module, rest) = (child, &rest[1..]);
                continue;
            }
            if let Some(meant) = self.names.get(&module).and_then(|names| names.get(part)) {
                // `use self::x::x` and globs would go round; a few steps reach every definition.
                if depth < 8 && meant.as_slice() != rest {
                    return self.file_of(&module, &[meant.as_slice(), &rest[1..]].concat(), depth + 1);
                }
            }
            break;
        }
        // Modules within a file belong to it.
        while !is_module(&module) {
            module.pop();
        }
        Some(File(module))
    }

    /// Circles of files within a room, tests left out. A file may use what the file of a module above it defines, which lists
    /// it; only circles of siblings are meant.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let mut below: BTreeMap<&File, BTreeSet<File>> = BTreeMap::new();
        for (file, used) in self.uses(false) {
            if file.room() == used.room() && *file != used && !used.is_above(file) {
                below.entry(file).or_default().insert(used);
            }
        }
        let reach = |start: &File| {
            let mut seen = BTreeSet::new();
            let mut open: Vec<File> = below.get(start).into_iter().flatten().cloned().collect();
            while let Some(file) = open.pop() {
                if seen.insert(file.clone()) {
                    open.extend(below.get(&file).into_iter().flatten().cloned());
                }
            }
            seen
        };
        let reached: BTreeMap<&File, BTreeSet<File>> = below.keys().map(|file| (*file, reach(file))).collect();
        let mut circles = BTreeSet::new();
        for (file, seen) in reached.iter().filter(|(file, seen)| seen.contains(file)) {
            let members = seen.iter().filter(|other| reached.get(other).is_some_and(|back| back.contains(file)));
            circles.insert(members.map(File::path).collect::<Vec<_>>());
        }
        circles.into_iter().collect()
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

fn module_of(path: &Path) -> Module {
    let mut module: Module =
        path.with_extension("").components().map(|part| part.as_os_str().to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|name| name == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}

/// Collects what one file mentions and defines.
struct Reader {
    module: Module,
    in_test: bool,
    mentions: Vec<Mention>,
    names: Vec<(Module, String, Vec<String>)>,
    types: Vec<String>,
    /// The features that the current item asks for.
    features: BTreeSet<String>,
    /// The features that the declarations of modules in this file ask for.
    features_of_modules: Vec<(Module, BTreeSet<String>)>,
}

impl Reader {
    fn mention(&mut self, path: Vec<String>) {
        let features = self.features.clone();
        self.mentions.push(Mention { from: self.module.clone(), path, in_test: self.in_test, features });
    }

    fn define(&mut self, name: &syn::Ident) {
        if !self.in_test {
            self.types.push(name.to_string());
        }
    }

    fn name(&mut self, tree: &syn::UseTree, prefix: &[String]) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.name(&path.tree, &with(&path.ident)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.name(tree, prefix)),
            syn::UseTree::Glob(_) => self.mention(prefix.to_vec()),
            syn::UseTree::Name(name) => {
                let path = if name.ident == "self" { prefix.to_vec() } else { with(&name.ident) };
                let known_as = path.last().expect("a name").clone();
                self.bind(known_as, path);
            }
            syn::UseTree::Rename(rename) => self.bind(rename.rename.to_string(), with(&rename.ident)),
        }
    }

    fn bind(&mut self, known_as: String, path: Vec<String>) {
        self.mention(path.clone());
        self.names.push((self.module.clone(), known_as, path));
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// The feature in `#[cfg(feature = "...")]`.
fn feature(attributes: &[syn::Attribute]) -> Option<String> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).find_map(|attribute| {
        let condition = attribute.parse_args::<syn::MetaNameValue>().ok()?;
        match condition.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(name), .. }) if condition.path.is_ident("feature") => {
                Some(name.value())
            }
            _ => None,
        }
    })
}

impl Reader {
    /// Visits an item within the conditions of its attributes.
    fn within(&mut self, attributes: &[syn::Attribute], visit: impl FnOnce(&mut Self)) {
        let (in_test, features) = (self.in_test, self.features.clone());
        self.in_test |= is_test(attributes);
        self.features.extend(feature(attributes));
        visit(self);
        (self.in_test, self.features) = (in_test, features);
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.within(&item.attrs, |reader| {
            reader.module.push(item.ident.to_string());
            if item.content.is_none() {
                let of_module = reader.features_of_modules.iter().any(|(module, _)| *module == reader.module);
                // The second declaration of a module is that of a build without the feature.
                if !of_module {
                    reader.features_of_modules.push((reader.module.clone(), reader.features.clone()));
                }
            }
            visit::visit_item_mod(reader, item);
            reader.module.pop();
        });
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.within(&item.attrs, |reader| reader.name(&item.tree, &[]));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.within(&item.attrs, |reader| visit::visit_item_fn(reader, item));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.mention(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        // The macro `options` passes on the items that it is given.
        if item.mac.path.is_ident("options") {
            let given: syn::File = syn::parse2(item.mac.tokens.clone()).expect("the macro is given items");
            self.types.extend(given.items.iter().filter_map(|item| match item {
                syn::Item::Struct(item) if !self.in_test => Some(item.ident.to_string()),
                _ => None,
            }));
        }
        visit::visit_item_macro(self, item);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        // What a macro is given is not parsed; its paths from the root are found in its tokens.
        let tokens = item.tokens.to_string();
        for part in tokens.split("crate :: ").skip(1) {
            let name: String = part.chars().take_while(|&letter| letter.is_alphanumeric() || letter == '_').collect();
            self.mention(vec!["crate".into(), name]);
        }
        visit::visit_macro(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.define(&item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.define(&item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.define(&item.ident);
        visit::visit_item_union(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.define(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.define(&item.ident);
        visit::visit_item_type(self, item);
    }
}
