"""The KMTalk network: its layers, inference, editing of key motions, and training losses.

Reading order:

- `model.py`: the whole network, its configuration and its input (`KMTalkNetwork`, `NetworkConfig`, `Batch`)
- `key_motion.py`: linguistic key motion acquisition (LKMA)
- `flow_encoder.py`: the motion flow encoder
- `completion.py`: cross-modal motion completion (CMC)
- `attention.py`: the transformer blocks that they share
- `heads.py`: the output layers; and `finetuned_encoder.py`, a wav2vec 2.0 trained with the network
- `inference.py`: the network on clips of any length
- `styles.py`: styles by name or share
- `predictor.py`: audio and phones to weights of a rig
- `postprocessing.py`: lip closure at p, b, m and still pauses
- `key_editing.py`: motion after key poses were edited
- `losses.py`: the training losses
"""
