//! Pictures of odd kinds, made here: the predictor takes them, or refuses them by name.

use std::path::Path;

use candle_cnn::parameters::Parameters;
use cifar_lab::candle_core::{Device, Result as CandleResult, Tensor};
use cifar_lab::candle_nn::ModuleT;
use cifar_lab::checkpoint::{ModelCard, save_pth, save_safetensors};
use cifar_lab::dataset::Cifar10;
use cifar_lab::display::Show;
use cifar_lab::error::{Error, Result};
use cifar_lab::evaluate::evaluate;
use cifar_lab::image::{DynamicImage, ImageBuffer, Luma, LumaA, Rgb, RgbImage, Rgba};
use cifar_lab::loader::DataLoader;
use cifar_lab::model::{Net, NetConfig};
use cifar_lab::picture::PictureError;
use cifar_lab::predict::Predictor;

/// Its classes say which color a picture mostly has.
#[derive(Clone)]
struct MeanColor;

impl ModuleT for MeanColor {
    /// [N, 3, H, W] to [N, 3].
    fn forward_t(&self, x: &Tensor, _train: bool) -> CandleResult<Tensor> {
        x.mean(3)?.mean(2)? * 20.0
    }
}

fn colors() -> Result<Predictor> {
    let class_names = ["red", "green", "blue"].map(String::from).to_vec();
    let card = ModelCard { class_names, network: None, ..ModelCard::default() };
    Predictor::new(MeanColor, &card, &Device::Cpu)
}

/// Mostly of one color, with a slope, so that compression has something to do.
fn slope(width: u32, height: u32, channel: usize) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let mut color = [(x % 50) as u8, (y % 50) as u8, 20];
        color[channel] = 180 + (x * 70 / width) as u8;
        Rgb(color)
    })
}

/// The five of odd kinds, and others: a name, and the class that should come out.
fn write_odd_pictures(folder: &Path) -> Vec<(&'static str, &'static str)> {
    let save = |picture: DynamicImage, name: &str| picture.save(folder.join(name)).unwrap();
    // The middle of the portrait is green; what the square leaves out is red.
    let mut portrait = slope(300, 900, 0);
    cifar_lab::image::imageops::replace(&mut portrait, &slope(300, 300, 1), 0, 300);
    save(portrait.into(), "portrait.jpg");
    // Transparent red around opaque blue: on white, blue is what is left.
    let alpha = ImageBuffer::from_fn(200, 150, |x, _| Rgba(if x < 60 { [255u8, 0, 0, 0] } else { [0, 0, 200, 255] }));
    save(alpha.into(), "alpha.png");
    save(ImageBuffer::from_fn(64, 48, |x, _| Luma([x as u8 * 4])).into(), "gray.png");
    save(slope(5, 3, 2).into(), "tiny.png");
    save(slope(5000, 3000, 0).into(), "huge.jpg");
    save(ImageBuffer::from_fn(70, 50, |x, y| Rgb([900 * x as u16, 60_000, 300 * y as u16])).into(), "16_bits.png");
    save(ImageBuffer::from_fn(9, 9, |_, _| LumaA([30_000u16, 40_000])).into(), "gray_alpha_16_bits.png");
    save(slope(1, 1, 1).into(), "one_pixel.jpg");
    save(slope(2000, 2, 2).into(), "line.PNG");
    vec![
        ("16_bits.png", "green"),
        ("alpha.png", "blue"),
        ("gray.png", ""),
        ("gray_alpha_16_bits.png", ""),
        ("huge.jpg", "red"),
        ("line.PNG", "blue"),
        ("one_pixel.jpg", "green"),
        ("portrait.jpg", "green"),
        ("tiny.png", "blue"),
    ]
}

#[test]
fn odd_pictures_are_looked_at() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let wanted = write_odd_pictures(folder.path());
    let predictor = colors()?;
    let all = predictor.predict_folder(folder.path())?;
    assert!(all.refused().is_empty(), "{all}");
    assert_eq!(all.predictions().len(), wanted.len());
    for (prediction, (name, class)) in all.predictions().iter().zip(wanted) {
        assert_eq!(prediction.name(), name);
        assert_eq!(prediction.input().dimensions(), (32, 32));
        let likeliest = &prediction.top(1)[0];
        if class.is_empty() {
            // Of a gray picture no color is likelier than another.
            assert!((likeliest.probability - 1.0 / 3.0).abs() < 1e-6, "{prediction}");
        } else {
            assert_eq!(likeliest.class, class, "{prediction}");
        }
        // The same alone as among others, up to the order of sums.
        let alone = predictor.predict_file(folder.path().join(name))?;
        assert!((alone.top(1)[0].probability - likeliest.probability).abs() < 1e-6);
        assert!(prediction.view().text().starts_with(name));
    }
    assert!(all.figure()?.svg().contains("portrait.jpg"));
    Ok(())
}

#[test]
fn what_is_no_picture_is_refused_by_name() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    slope(40, 30, 0).save(path("good.jpg")).unwrap();
    let good = std::fs::read(path("good.jpg")).unwrap();
    std::fs::write(path("cut.jpg"), &good[..good.len() / 4]).unwrap();
    std::fs::write(path("empty.png"), "").unwrap();
    std::fs::write(path("text.png"), "no picture").unwrap();
    std::fs::write(path("gif.jpg"), b"GIF89a\x01\0\x01\0\0\0\0;").unwrap();
    // A bomb: 60,000 × 60,000 pixels in the header, and nothing behind.
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0".to_vec();
    bomb.extend(crc32(&bomb[12..]).to_be_bytes());
    bomb.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    std::fs::write(path("bomb.png"), bomb).unwrap();
    std::fs::create_dir(path("folder.png")).unwrap();
    std::fs::write(path("notes.txt"), "not looked at").unwrap();
    std::fs::write(path("phone.HEIC"), b"\0\0\0\x18ftypheic").unwrap();

    let predictor = colors()?;
    let all = predictor.predict_folder(folder.path())?;
    assert_eq!(all.predictions().len(), 1, "{all}");
    let refused: Vec<&str> = all.refused().iter().map(|refused| refused.name.as_str()).collect();
    assert_eq!(refused, ["bomb.png", "cut.jpg", "empty.png", "gif.jpg", "phone.HEIC", "text.png"]);
    for refused in all.refused() {
        assert!(refused.reason.to_string().contains(&refused.name), "{}", refused.reason);
    }
    assert!(matches!(all.refused()[0].reason, PictureError::TooLarge { width: 60_000, .. }), "{all}");
    assert!(matches!(all.refused()[1].reason, PictureError::Damaged { .. }), "{all}");
    let svg = all.figure()?.svg();
    assert!(svg.contains("Predictions for 1 image; 6 files refused"), "{svg}");
    assert!(matches!(&all.refused()[3].reason, PictureError::Format { found, .. } if found == "Gif"), "{all}");
    let missing = predictor.predict_file(path("missing.jpg")).unwrap_err();
    assert!(
        matches!(missing, Error::Picture(PictureError::File { .. })) && missing.to_string().contains("missing.jpg")
    );
    assert!(matches!(predictor.predict_file(path("folder.png")), Err(Error::Picture(PictureError::Format { .. }))));
    assert!(predictor.predict_folder(path("missing")).is_err());
    assert!(matches!(predictor.predict(&RgbImage::new(0, 3)), Err(Error::Picture(PictureError::Empty { .. }))));
    Ok(())
}

#[test]
fn a_cut_picture_is_refused_wherever_it_was_cut() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let predictor = colors()?;
    for name in ["photo.jpg", "photo.png"] {
        let path = folder.path().join(name);
        slope(300, 200, 1).save(&path).unwrap();
        assert_eq!(predictor.predict_file(&path)?.classes()[0].class, "green");
        let whole = std::fs::read(&path).unwrap();
        for percent in [1, 10, 50, 90, 99] {
            std::fs::write(&path, &whole[..whole.len() * percent / 100]).unwrap();
            let error = predictor.predict_file(&path).unwrap_err();
            assert!(matches!(&error, Error::Picture(PictureError::Damaged { .. })), "{percent} % of {name}: {error}");
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("truncated") && text.contains("get the file again"), "{text}");
        }
    }
    // Half a JPEG with an end marker behind, as some programs save it: most of the rows are not there.
    let path = folder.path().join("half.jpg");
    slope(300, 200, 1).save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..whole.len() / 2], b"\xff\xd9"].concat()).unwrap();
    let error = predictor.predict_file(&path).unwrap_err();
    assert!(matches!(error, Error::Picture(PictureError::Damaged { .. })), "{error}");
    Ok(())
}

/// PNG's checksum, by its definition in the specification's annex D.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 })
    })
}

#[test]
fn a_phone_s_picture_is_turned_upright() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("phone.jpg");
    // Held on its side: blue at the left is the top once it is upright.
    let picture = RgbImage::from_fn(64, 64, |x, _| Rgb(if x < 32 { [0, 0, 250] } else { [250, 0, 0] }));
    picture.save(&path).unwrap();
    let jpeg = std::fs::read(&path).unwrap();
    // Exif in big-endian TIFF with one entry: orientation (0x112), one short, 6: turn by 90° clockwise.
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let length = (exif.len() + 2) as u16;
    let turned = [&jpeg[..2], b"\xff\xe1", &length.to_be_bytes(), exif, &jpeg[2..]].concat();
    std::fs::write(&path, turned).unwrap();
    let input = colors()?.predict_file(&path)?.input().clone();
    assert!(input.get_pixel(16, 2).0[2] > 200 && input.get_pixel(16, 29).0[0] > 200, "{:?}", input.get_pixel(16, 2));
    Ok(())
}

#[test]
fn pictures_of_the_data_set_get_what_evaluate_says() -> Result<()> {
    let data = Cifar10::stand_in(0, 10, 100).test;
    let parameters = Parameters::new(3);
    let config = NetConfig { channels: vec![4, 8], dense: vec![8], ..NetConfig::default() };
    let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    let loader = DataLoader::new(&data, &Device::Cpu).normalize(&Default::default());
    let evaluation = evaluate(&net, &loader)?;
    let (network, accuracy) = (Some(config), Some(evaluation.accuracy()));
    let card = ModelCard { network, accuracy, ..ModelCard::new(&loader) };
    let folder = tempfile::tempdir().unwrap();
    save_pth(&parameters, folder.path().join("net.pth"), &card)?;
    save_safetensors(&parameters, folder.path().join("net.safetensors"), &card)?;
    for name in ["net.pth", "net.safetensors"] {
        let predictor = Predictor::from_file(folder.path().join(name), &Device::Cpu)?;
        assert_eq!(predictor.card(), &card);
        for prediction in evaluation.predictions() {
            let likeliest = predictor.predict(&data.image(prediction.index)?)?.classes()[0].clone();
            assert_eq!(Some(&likeliest.class), prediction.predicted.map(|class| &data.class_names()[class]));
            assert!((likeliest.probability - prediction.probability).abs() < 1e-5);
        }
    }
    Ok(())
}

#[test]
fn cards_and_weights_that_do_not_fit_are_refused() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.pth");
    let parameters = Parameters::new(0);
    Net::new(&NetConfig::default(), parameters.var_builder(&Device::Cpu))?;
    save_pth(&parameters, &path, &ModelCard::default())?;
    let refused = |json: Option<&str>| {
        let card = path.with_extension("json");
        match json {
            Some(json) => std::fs::write(&card, json).unwrap(),
            None => std::fs::remove_file(&card).unwrap(),
        }
        Predictor::from_file(&path, &Device::Cpu).unwrap_err().to_string()
    };
    assert!(refused(Some("{\"network\": null}")).contains("Predictor::new"));
    assert!(refused(Some("not JSON")).contains("net.json"));
    assert!(refused(Some("{\"class_names\": [\"cat\"]}")).contains("names 1 classes"));
    assert!(
        refused(Some("{\"network\": {\"dense\": [99]}}"))
            .contains("fc1.weight has shape [512, 1024], expected [99, 1024]")
    );
    // A card that would have 10¹⁸ parameters made.
    assert!(refused(Some("{\"network\": {\"dense\": [1000000000, 1000000000]}}")).contains("parameters, but the file"));
    assert!(refused(None).contains("holds {}"));
    std::fs::write(path.with_extension("json"), "{}").unwrap();
    assert!(Predictor::from_file(&path, &Device::Cpu).is_ok());
    let error = Predictor::new(MeanColor, &ModelCard { network: None, ..ModelCard::default() }, &Device::Cpu);
    assert!(error.unwrap_err().to_string().contains("[1, 3]"));
    Ok(())
}

/// Says NaN of every picture whose middle is mostly red.
struct NanOfRed;

impl ModuleT for NanOfRed {
    fn forward_t(&self, x: &Tensor, train: bool) -> CandleResult<Tensor> {
        let said = MeanColor.forward_t(x, train)?;
        let rows = said.to_vec2::<f32>()?.into_iter().map(|row| match row[0] > row[1] && row[0] > row[2] {
            true => vec![row[0], f32::NAN, row[2]],
            false => row,
        });
        Tensor::new(rows.collect::<Vec<_>>(), x.device())
    }
}

#[test]
fn an_output_that_is_no_number_names_no_class() -> Result<()> {
    let class_names = ["red", "green", "blue"].map(String::from).to_vec();
    let card = ModelCard { class_names, network: None, ..ModelCard::default() };
    let predictor = Predictor::new(NanOfRed, &card, &Device::Cpu)?;
    let nothing = predictor.predict(&slope(40, 40, 0))?.with_name("red.png");
    assert!(nothing.classes().is_empty() && nothing.top(3).is_empty());
    assert_eq!(nothing.to_string(), "red.png: the network's output is not a number (NaN or infinite)");
    let figure = nothing.figure()?.svg();
    assert!(figure.contains("red.png: the network&#39;s output is not a number") && !figure.contains('%'), "{figure}");
    // The others are not touched by it.
    let folder = tempfile::tempdir().unwrap();
    slope(40, 40, 0).save(folder.path().join("red.png")).unwrap();
    slope(40, 40, 2).save(folder.path().join("blue.png")).unwrap();
    let both = predictor.predict_folder(folder.path())?;
    assert_eq!(both.predictions()[0].classes()[0].class, "blue");
    let table = both.table(2).to_string();
    assert!(table.contains("red.png   not a number") && table.contains("blue.png  blue "), "{table}");
    assert!(both.figure()?.svg().contains("not a number") && both.view().text().contains("not a number"));
    assert!(!both.to_string().contains("NaN"), "{both}");
    Ok(())
}
