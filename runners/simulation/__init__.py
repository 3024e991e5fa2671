"""A fleet of car-share vehicles in Seoul, simulated: archive, bindings and the truth about them."""
