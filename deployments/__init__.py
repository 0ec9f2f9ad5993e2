"""The Ray Serve graph: ``Ingress -> MelExtractor -> Encoder -> Heads``, one file a stage. No HTTP rules live here."""
