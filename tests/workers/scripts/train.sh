#!/bin/sh
# A training in a language that knows nothing of Trimtab: parameters from the environment, reports as lines.
state="$TRIMTAB_CHECKPOINT_DIR/state"
step=$TRIMTAB_START_STEP
[ -f "$state" ] && [ "$(cat "$state")" != "$step" ] && { echo "the checkpoint is not of step $step"; exit 1; }
while [ "$step" -lt "$TRIMTAB_TARGET_STEP" ] && [ ! -e "$TRIMTAB_VERDICT" ]; do
  step=$((step + 1))
  loss=$(awk -v lr="$TRIMTAB_PARAM_lr" -v step="$step" 'BEGIN { print lr / step }')
  echo "{\"step\": $step, \"loss\": $loss, \"share\": $TRIMTAB_PARAM_mix_web}" >> "$TRIMTAB_REPORTS"
  sleep "$TRIMTAB_PARAM_pause"
done
echo "$step" > "$state"
