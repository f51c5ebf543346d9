#![doc = include_str!("../README.md")]

/// The images' file names, and the files: PNG, eight bits each of red, green and blue.
pub const IMAGES: [(&str, &[u8]); 4] = [
    ("2019_YELL_2_541000_4977000_image_crop.png", include_bytes!("../2019_YELL_2_541000_4977000_image_crop.png")),
    ("OSBS_029.png", include_bytes!("../OSBS_029.png")),
    ("SOAP_031.png", include_bytes!("../SOAP_031.png")),
    ("SOAP_061.png", include_bytes!("../SOAP_061.png")),
];
