//! Files of Java servers: what they hold according to Java, and what becomes of them in ours. Spec: on-disk formats.

mod damage;
mod expected;
mod export;
mod import;
mod lead;
mod load;
mod replay;
mod sample;
mod stream;
