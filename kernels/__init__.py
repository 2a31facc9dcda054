"""Operations of the network, a folder each, with the plain-PyTorch reference that says what each computes."""

__all__ = ["pyramid_fusion", "temporal_aggregate", "temporal_attention"]
