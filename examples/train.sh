#!/bin/sh
# A training in a language that has no package for Trimtab: gradient descent on (x - 3)^2 / 2 + 1, in awk.
# What a script may use is in environment variables; it answers with lines of JSON and leaves a checkpoint.
state="$TRIMTAB_CHECKPOINT_DIR/x"
x=0
[ -f "$state" ] && x=$(cat "$state")
step=$TRIMTAB_START_STEP

# The file named by TRIMTAB_VERDICT appears when Trimtab wants the trial to end: then save and exit.
while [ "$step" -lt "$TRIMTAB_TARGET_STEP" ] && [ ! -e "$TRIMTAB_VERDICT" ]; do
  step=$((step + 1))
  x=$(awk -v x="$x" -v lr="$TRIMTAB_PARAM_lr" 'BEGIN { printf "%.9f", x - lr * (x - 3) }')
  if [ $((step % TRIMTAB_REPORT_EVERY)) -eq 0 ] || [ "$step" -eq "$TRIMTAB_TARGET_STEP" ]; then
    loss=$(awk -v x="$x" 'BEGIN { printf "%.9f", (x - 3) ^ 2 / 2 + 1 }')
    echo "{\"step\": $step, \"loss\": $loss}" >> "$TRIMTAB_REPORTS"
  fi
done
echo "$x" > "$state"
