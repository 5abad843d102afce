//! `bindgen INPUT.wasm FOLDER`: makes an ES module with types from compiled WASM.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(input), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: bindgen INPUT.wasm FOLDER".into());
    };
    wasm_bindgen_cli_support::Bindgen::new()
        .input_path(input)
        .out_name("piecewise_wasm")
        .typescript(true)
        .omit_default_module_path(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        .web(true)?
        .generate(folder)?;
    Ok(())
}
