# `just` alone lists the recipes.
default:
    @just --list

# What CI checks, all of it; changes no file.
check:
    .ci/run

# Whatever a tool can put right by itself; changes files.
fix:
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt --all

# The tests: of everything, or `just test -p gristmill-core`.
test *arguments='--workspace':
    cargo test {{ arguments }}

# The proof that core and messages need no std.
no-std:
    .ci/no-std

# Measures. Close other programs first.
bench *arguments='--workspace':
    cargo bench {{ arguments }}

# The documentation, in a browser.
doc:
    cargo doc --workspace --no-deps --open

# Runs an example: `just example two_node`.
example name *arguments:
    cargo run -p gristmill-examples --example {{ name }} -- {{ arguments }}
