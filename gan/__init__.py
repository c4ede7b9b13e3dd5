"""3DGAN: a generative adversarial network that replaces Geant4 for electromagnetic calorimeter showers."""
