#![no_std]
//! The init stage.
