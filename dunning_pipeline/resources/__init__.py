"""The outside world: the warehouse file, the clock, source systems and Klaviyo. No dunning rule lives here."""
